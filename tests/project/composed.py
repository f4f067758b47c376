"""All of docker-compose.yml, up, without containers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.project.composefile import Services, dockerfile, is_ours, only, waves
from tests.project.containers import KINDS, Machine, Ours, Part, image_environment
from tests.servers import CHECKOUT


class Composed:
    """``docker compose up --build --wait``. A context manager: at its end, none of it is left."""

    def __init__(self, folder: Path, services: Services) -> None:
        self.machine = Machine(folder, services)
        self.parts: dict[str, Part] = {}
        self.built_after = 0.0

    def build(self) -> None:
        """What the Dockerfile does after the packages: copy, and collect static files."""
        machine = self.machine
        for place in (machine.tree, machine.var / "media", machine.var / "mogilefs", machine.home):
            place.mkdir(parents=True)
        for instruction in dockerfile():
            if instruction.word == "COPY":
                *sources, destination = instruction.rest.split()
                for source in sources:
                    _copy(CHECKOUT / source, machine.tree / destination)
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", **image_environment(machine)}
        for line in collecting():
            subprocess.run(["sh", "-c", line], cwd=machine.tree, env=environment, check=True, timeout=60)
        # What compose mounts from the checkout, where the image has nothing.
        for service in machine.services.values():
            for source, inside, *_ in (entry.split(":") for entry in service.get("volumes", [])):
                if inside.startswith("/srv/site/"):
                    Path(machine.local(inside, "")).symlink_to(CHECKOUT / source)
        self.built_after = time.time()

    def up(self) -> None:
        self.build()
        for wave in waves(self.machine.services):
            for name in wave:
                service = self.machine.services[name]
                kind = Ours if is_ours(service) else KINDS[service["image"].split(":")[0]]
                self.parts[name] = kind(self.machine, name)
            with ThreadPoolExecutor() as pool:
                list(pool.map(Part.start, [self.parts[name] for name in wave]))

    def url(self, port: int) -> str:
        """Of what compose publishes on this port."""
        return f"http://127.0.0.1:{self.machine.published_port(port)}/"

    def written_into_the_image(self) -> list[str]:
        """Files that would have been written where containers may not write."""
        places = [path for top in (self.machine.tree, self.machine.home) for path in top.rglob("*")]
        return [str(path) for path in places if not path.is_dir() and path.lstat().st_mtime > self.built_after]

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for wave in reversed(waves(self.machine.services)):
            with ThreadPoolExecutor() as pool:
                list(pool.map(Part.close, [self.parts[name] for name in wave if name in self.parts]))


def collecting() -> list[str]:
    """The lines that the Dockerfile runs as the site's user."""
    found = dockerfile()
    user = found.index(only("USER"))
    return [each.rest for each in found[user:] if each.word == "RUN"]


def _copy(source: Path, destination: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, destination)
