"""What people may upload, and what they are told when they may not."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from django import forms
from django.conf import settings
from django.core.files import File
from django.template.defaultfilters import filesizeformat

#: How the content of each kind of image begins: (offset, bytes); the kinds that every browser shows.
KINDS = {
    ".png": (0, b"\x89PNG\r\n\x1a\n"),
    ".jpg": (0, b"\xff\xd8\xff"),
    ".gif": (0, b"GIF8"),
    ".webp": (8, b"WEBP"),
    ".avif": (4, b"ftypavif"),
}
SAME = {".jpeg": ".jpg"}


def kind_of(content: File[Any]) -> str:
    """The suffix that this image should have, by its content; empty if it is none of ``KINDS``."""
    content.seek(0)
    start = content.read(16)
    content.seek(0)
    return next((kind for kind, (at, magic) in KINDS.items() if start[at:].startswith(magic)), "")


def suffix_of(name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    return SAME.get(suffix, suffix)


class LimitedFileField(forms.FileField):
    """A file of at most ``MAX_UPLOAD_MIB``."""

    def clean(self, data: Any, initial: Any = None) -> Any:
        file = super().clean(data, initial)
        limit = settings.MAX_UPLOAD_MIB * 1024 * 1024
        if file and file.size > limit:
            raise forms.ValidationError(
                f"{file.name} has {filesizeformat(file.size)}, which is too large: "
                f"choose a file of at most {filesizeformat(limit)}."
            )
        return file


class ImageFileField(LimitedFileField):
    """An image, whatever its name says: its content decides, and gives it its suffix."""

    def clean(self, data: Any, initial: Any = None) -> Any:
        file = super().clean(data, initial)
        if file:
            kind = kind_of(file)
            if not kind:
                raise forms.ValidationError(
                    f"{file.name} is not an image that browsers show: choose a PNG, JPEG, GIF, WebP or AVIF file."
                )
            if suffix_of(file.name) != kind:
                # Else a media host would serve a page under the name of an image.
                file.name = f"{PurePosixPath(file.name).stem}{kind}"
        return file


class ThumbInput(forms.FileInput):
    """Filled in by gallery.js, which makes a small image of the one in the field *of*. Nobody sees it."""

    is_hidden = True

    def __init__(self, of: str) -> None:
        super().__init__(attrs={"hidden": True, "data-thumb-of": of})


class WithThumb(forms.Form):
    """A form that has a thumb of its image; optional, as browsers may run no scripts."""

    thumb = ImageFileField(max_length=180, required=False, widget=ThumbInput("image"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not settings.WITH_MOGILEFS:
            del self.fields["thumb"]

    @property
    def new_thumb(self) -> File[Any] | str:
        """What to store; empty: none."""
        return self.cleaned_data.get("thumb") or ""


class UploadForm(WithThumb):
    image = ImageFileField(
        label="Image",
        max_length=180,
        widget=forms.ClearableFileInput(attrs={"accept": "image/png,image/jpeg,image/gif,image/webp,image/avif"}),
        error_messages={"required": "Choose an image first."},
    )
    attachment = LimitedFileField(label="Attachment", max_length=180, required=False, help_text="Any file; optional.")
    title = forms.CharField(label="Title", max_length=120, required=False, help_text="Optional.")

    def clean_title(self) -> str:
        title: str = self.cleaned_data["title"].strip()
        image = self.cleaned_data.get("image")
        if title or not image:
            return title
        return PurePosixPath(image.name).stem.replace("_", " ").replace("-", " ").strip()[:120] or "Untitled"


class ReplaceForm(WithThumb):
    """New content for an image, under the name that it has."""

    image = ImageFileField(
        label="New image", max_length=180, error_messages={"required": "Choose the new image first."}
    )

    def __init__(self, *args: Any, name: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = name

    def clean_image(self) -> File[Any]:
        image: File[Any] = self.cleaned_data["image"]
        if kind_of(image) != suffix_of(self.name):
            raise forms.ValidationError(
                f"The name {PurePosixPath(self.name).name} stays, so the new image must be of the same kind: "
                f"choose a {suffix_of(self.name)} file."
            )
        return image


class ExampleForm(forms.Form):
    file = LimitedFileField(
        label="File", max_length=180, required=False, help_text="A small text, if you choose none."
    )


class AvatarForm(forms.Form):
    avatar = ImageFileField(
        label="Your avatar",
        max_length=180,
        widget=forms.FileInput(attrs={"accept": "image/png,image/jpeg,image/gif,image/webp,image/avif"}),
        error_messages={"required": "Choose an image first."},
    )
