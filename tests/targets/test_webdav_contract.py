"""The target contract, against each WebDAV server; what a server cannot do is written here."""

from __future__ import annotations

import pytest

from replicator.targets.base import Target
from replicator.targets.webdav import WebDAVTarget
from replicator.testing import MemoryTarget, TargetContract
from tests.servers import MediaHost


class TestMemory(TargetContract):
    has_folders = False
    longest_segment = 255
    large = 1 << 20

    def make_target(self) -> Target:
        return MemoryTarget("memory")

    def test_long_names_are_stored_or_refused(self) -> None:
        """A dict takes any."""


class _OnHost(TargetContract):
    @pytest.fixture(autouse=True)
    def _host(self, host: MediaHost) -> None:
        self.host = host

    def make_target(self) -> Target:
        return WebDAVTarget("host", url=self.host.url)


class TestNginx(_OnHost):
    # nginx-dav-ext-module passes over what begins with a dot.
    unlisted_names = frozenset({".hidden", "..."})

    @pytest.fixture
    def host(self, nginx: MediaHost) -> MediaHost:
        return nginx


class TestLighttpd(_OnHost):
    # It answers 400 to a control character, 500 to a segment of more than 245 bytes: its temporary name is longer.
    refused_names = frozenset({"new\nline.txt", "tab\t.txt"})
    longest_segment = 240

    @pytest.fixture
    def host(self, lighttpd: MediaHost) -> MediaHost:
        return lighttpd


class TestApache(_OnHost):
    @pytest.fixture
    def host(self, apache: MediaHost) -> MediaHost:
        return apache


class TestEmbedded(_OnHost):
    @pytest.fixture
    def host(self, embedded: MediaHost) -> MediaHost:
        return embedded
