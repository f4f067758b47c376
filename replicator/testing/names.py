"""File names for tests: those that are easy to get wrong, and those that must never be sent."""

#: Names that are easy to get wrong: each is a file of its own.
ODD_NAMES = (
    "with space.txt", "a#b.txt", "a?b.txt", "50%.txt", "%41.txt", "%2Fslash.txt", "a+b.txt", "a&b=c;d.txt",
    "äöü/文件.txt", "e\u0301.txt", "\U0001f4be.txt", "it's \"quoted\".txt", "(a)[b]{c}|^`~@:,!$*.txt", ".hidden",
    "-dash", "dots..txt", "...", "trailing ", "trailing.", "<b>.txt", "new\nline.txt", "tab\t.txt",
)  # fmt: skip
#: Names that must never be sent: they mean another place, or a folder.
UNSAFE_NAMES = (
    "",
    "/",
    "/absolute",
    "a//b",
    "folder/",
    "..",
    "../up",
    "a/../b",
    "a/./b",
    ".",
    "nul\0",
    "back\\slash",
)
