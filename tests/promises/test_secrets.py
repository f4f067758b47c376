"""Promise 9: no credential in a task's arguments, a log line, an error, the admin or a URL that is shown."""

from __future__ import annotations

import socket
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

from tests.promises.harness import Site, wait_until
from tests.servers import Embedded, MediaHost, Redis
from tests.targets.rawserver import RawServer, read_request

PASSWORD = "Pa55-w0rd&of=the/host"
TOKEN = "t0ken-of-the-host"


def echoing(sock: socket.socket) -> None:
    """A host without tact: it refuses everything and repeats who asked, in its head, body and redirect."""
    while True:
        _, path, _ = read_request(sock)
        who = f"http://someone:{quote(PASSWORD, safe='')}@127.0.0.1{path}?token={TOKEN}"
        fields = f"Location: {who}\r\nX-Who: {TOKEN}\r\nContent-Length: 0"
        sock.sendall(f"HTTP/1.1 302 Found {PASSWORD}\r\n{fields}\r\n\r\n".encode())


def test_no_credential_leaves_the_settings(tmp_path: Path, redis: Redis, embedded: Embedded) -> None:
    """Promise 9: with everything going wrong, and every log at its most talkative."""
    import redis as client

    redis.flush()
    protected = Embedded(user="someone", password=PASSWORD)
    basic = {"username": "someone", "password": PASSWORD}
    with protected, RawServer(echoing) as rude:
        with socket.create_server(("127.0.0.1", 0)) as free:
            refusing = f"http://127.0.0.1:{free.getsockname()[1]}"
        hosts: dict[str, MediaHost | str] = {
            "right": protected,
            "wrong": protected,
            "rude": rude.url,
            "rude2": rude.url,
            "refusing": refusing,
            # A mistake: it belongs into the options, and its slash would have to be encoded.
            "in-url": f"http://someone:{PASSWORD}@127.0.0.1:{embedded.port}",
        }
        options = {
            "right": basic,
            "wrong": {"username": "someone", "password": f"{PASSWORD}, mistyped"},
            "rude": {**basic, "auth": "digest"},
            "rude2": {"token": TOKEN},
            "refusing": basic,
        }
        with Site(tmp_path, hosts, options=options, broker=redis.url, log_level="DEBUG") as site:
            site.operator.call("save", name="a.txt", data="1")
            assert site.operator.call("flush")
            with client.Redis(unix_socket_path=str(redis.socket)) as connection:
                messages = b"\n".join(connection.lrange("celery", 0, -1)).decode()
            site.worker(2)
            site.beat()
            untried = lambda: [  # noqa: E731
                row for row in site.operator.call("rows") if row["status"] != "synced" and not row["error_text"]
            ]
            wait_until(lambda: not untried(), say=untried)
            site.operator.call("probe")
            rows = {row["target"]: row for row in site.operator.call("rows")}
            assert rows["right"]["status"] == "synced", rows
            assert {alias for alias, row in rows.items() if row["error_text"]} == hosts.keys() - {"right"}
            said = {
                "messages": messages,
                "rows": str(rows),
                "reasons": str(site.operator.call("reasons")),
                "admin": site.operator.call("admin_pages"),
                "checks": site.operator.call("checks"),
                "reprs": site.operator.call("reprs"),
                "logs": site.logs(everything=True),
            }
    assert messages.count("replicator.deliver") >= len(hosts)
    assert "deliver" in said["logs"]
    encoded = b64encode(f"someone:{PASSWORD}".encode()).decode()
    for secret in (PASSWORD, TOKEN, encoded, quote(PASSWORD, safe=""), "Pa55"):
        found = {where: text[text.index(secret) - 200 :][:300] for where, text in said.items() if secret in text}
        assert found == {}
