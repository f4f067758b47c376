"""docker-compose.yml and Dockerfile, read as Docker reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.servers import CHECKOUT

COMPOSE = CHECKOUT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)(?:(:?)([-?+])([^}]*))?\})")

Services = dict[str, dict[str, Any]]


class MissingVariable(Exception):
    """``${NAME:?message}`` without a value."""


def interpolated(value: Any, environment: Mapping[str, str]) -> Any:
    """What compose makes of *value*, in all of its strings: ``$$``, ``$NAME``, ``${NAME}`` and with -, ? and +."""
    if isinstance(value, dict):
        return {name: interpolated(each, environment) for name, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, environment) for each in value]
    return _VARIABLE.sub(lambda match: _meaning(match, environment), value) if isinstance(value, str) else value


def _meaning(match: re.Match[str], environment: Mapping[str, str]) -> str:
    dollar, plain, braced, colon, operator, word = match.groups()
    if dollar:
        return "$"
    found = environment.get(plain or braced)
    is_there = bool(found) if colon else found is not None
    if operator == "+":
        return word if is_there else ""
    if operator == "?" and not is_there:
        raise MissingVariable(f"{braced}: {word}")
    return found or "" if is_there or operator is None else word


def services(environment: Mapping[str, str], profiles: Collection[str] = ()) -> Services:
    """Name → service, of those that ``docker compose up`` starts."""
    found: Services = interpolated(yaml.safe_load(COMPOSE.read_text())["services"], environment)
    return {name: s for name, s in found.items() if not s.get("profiles") or {*s["profiles"]} & {*profiles}}


def is_ours(service: Mapping[str, Any]) -> bool:
    """Whether it runs in the image that the Dockerfile of the site makes."""
    return service.get("build") == "."


def user_of(service: Mapping[str, Any]) -> str:
    """Who its process is: as it says, or as the image that is built for it; else root."""
    return service.get("user") or (only("USER", service["build"]).rest if "build" in service else "root")


def health_check(service: Mapping[str, Any]) -> list[str]:
    """Its arguments; a shell's, for one that is a line of shell."""
    kind, *arguments = service["healthcheck"]["test"]
    assert kind in ("CMD", "CMD-SHELL"), kind
    return arguments if kind == "CMD" else ["sh", "-c", *arguments]


def published(services: Services) -> dict[tuple[str, int], tuple[str, int]]:
    """(address, port) of this machine → (service, its port)."""
    found = {}
    for name, service in services.items():
        for entry in service.get("ports", []):
            address, port, inside = entry.rsplit(":", 2)
            found[address, int(port)] = name, int(inside)
    return found


def waves(services: Services) -> list[list[str]]:
    """Names, in the order of starting: those of one wave wait only for those of waves before it."""
    left, found = dict(services), []
    while left:
        wave = [name for name, service in left.items() if not {*service.get("depends_on", {})} & left.keys()]
        assert wave, f"{list(left)} wait for each other"
        found.append(wave)
        left = {name: service for name, service in left.items() if name not in wave}
    return found


@dataclass(frozen=True, slots=True)
class Instruction:
    """``COPY a b``: its word, and the rest of it in one line."""

    word: str
    rest: str

    @property
    def arguments(self) -> list[str]:
        """Of the form that names no shell."""
        found = json.loads(self.rest)
        assert isinstance(found, list)
        return found


def dockerfile(folder: str = ".") -> list[Instruction]:
    lines = [line for line in (CHECKOUT / folder / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def only(word: str, folder: str = ".") -> Instruction:
    """The one instruction of *folder*'s Dockerfile that begins so."""
    (found,) = [each for each in dockerfile(folder) if each.word == word]
    return found
