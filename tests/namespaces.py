"""Machines of their own, as far as the network goes: Linux network namespaces on one bridge."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import pytest

from tests.servers import Embedded


class Network:
    """A bridge, and machines on it: ``command`` runs something on one, ``cut`` pulls its cable.

    Skips the test where namespaces can't be made: that takes root, and a kernel that lets it.
    """

    def __init__(self, names: Sequence[str]) -> None:
        # A network of a process's own, so that two runs do not meet.
        self._id = os.getpid() % 200
        self._bridge = f"repl{self._id}"
        self._addresses = {name: f"10.213.{self._id}.{number}" for number, name in enumerate(names, 1)}

    def address(self, name: str) -> str:
        return self._addresses[name]

    def command(self, name: str, command: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self._space(name), *command]

    def cut(self, name: str) -> None:
        """Nobody reaches it, and it reaches nobody; packets are lost without an answer."""
        self._ip("link", "set", self._cable(name), "down")

    def mend(self, name: str) -> None:
        self._ip("link", "set", self._cable(name), "up")

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("network namespaces take root and the ip command")
        try:
            self._make()
        except subprocess.CalledProcessError as error:
            self._remove()
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _make(self) -> None:
        self._ip("link", "add", self._bridge, "type", "bridge")
        self._ip("addr", "add", f"10.213.{self._id}.254/24", "dev", self._bridge)
        self._ip("link", "set", self._bridge, "up")
        for name, address in self._addresses.items():
            space, cable = self._space(name), self._cable(name)
            self._ip("netns", "add", space)
            self._ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
            self._ip("link", "set", cable, "master", self._bridge)
            self._ip("link", "set", cable, "up")
            self._ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            self._ip("-n", space, "link", "set", "eth0", "up")
            self._ip("-n", space, "link", "set", "lo", "up")

    def _remove(self) -> None:
        for name in self._addresses:
            self._ip("link", "del", self._cable(name), check=False)
            self._ip("netns", "del", self._space(name), check=False)
        self._ip("link", "del", self._bridge, check=False)

    def _space(self, name: str) -> str:
        return f"{self._bridge}-{name}"

    def _cable(self, name: str) -> str:
        # Of 15 characters at most.
        return f"v{self._id}{name}"[:15]

    @staticmethod
    def _ip(*arguments: str, check: bool = True) -> None:
        subprocess.run(["ip", *arguments], check=check, capture_output=True)


class EmbeddedOn(Embedded):
    """The project's own media host, on one of these machines."""

    def __init__(self, network: Network, name: str) -> None:
        super().__init__()
        self._network, self._name = network, name

    @property
    def url(self) -> str:
        return f"http://{self._network.address(self._name)}:{self.port}"

    def command(self) -> list[str]:
        address = self._network.address(self._name)
        return self._network.command(self._name, [*super().command(), "--bind", address])

    def answers(self) -> bool:
        try:
            socket.create_connection((self._network.address(self._name), self.port), timeout=1).close()
        except OSError:
            return False
        return True
