"""Reading environment variables: as django-environ does, and strict where that guesses."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


class Env(environ.Env):  # type: ignore[misc]  # django-environ has no types
    """``environ.Env`` whose numbers and booleans are what they look like: "6O" is no number, "ture" not False."""

    def flag(self, name: str, default: bool) -> bool:
        return yes_or_no(name, os.environ.get(name, str(default)))

    def number(self, name: str, default: float | None = None, *, kind: type[float] = int) -> Any:
        text = os.environ.get(name, "").strip()
        if not text:
            return default
        try:
            return kind(text)
        except ValueError:
            noun = "whole number" if kind is int else "number"
            raise ImproperlyConfigured(f"{name}={text} is not a {noun}: write one, such as {name}=60.") from None

    def pairs(self, name: str, default: Mapping[str, str], *, example: str) -> dict[str, str]:
        """``alias=value,alias=value``."""
        found = dict(default) if name not in os.environ else {}
        for item in self.list(name, default=[]):
            alias, equals, value = item.strip().partition("=")
            if not (alias and equals and value) or alias in found:
                raise ImproperlyConfigured(f"{name} has the entry {item!r}: write {name}={example}, each alias once.")
            found[alias] = value
        return found


def yes_or_no(name: str, text: str) -> bool:
    text = text.strip().lower()
    if text not in _TRUE | _FALSE:
        raise ImproperlyConfigured(f"{name}={text} is neither yes nor no: write {name}=1 or {name}=0.")
    return text in _TRUE


def kept_secret(path: Path) -> str:
    """The secret in *path*, made at the first call; several processes that call at once get the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Readable for its owner only from the start, and whole before it has its name.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            with suppress(FileExistsError):  # another process was faster
                path.hardlink_to(file.name)
    return path.read_text().strip()
