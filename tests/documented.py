"""The code blocks of docs/, for tests that run what the documentation shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def documented(page: str, language: str, *, under: str = "") -> str:
    """The one block of this language in a page, or below that heading of it."""
    text = (DOCS / page).read_text()
    if under:
        (text,) = re.findall(rf"^## {re.escape(under)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert isinstance(block, str)
    return block


def filled(text: str, values: Mapping[str, str]) -> str:
    """*text* with what stands in its examples replaced; each of *values* must be there."""
    for example, value in values.items():
        assert example in text, f"{example} is not in:\n{text}"
        text = text.replace(example, value)
    return text
