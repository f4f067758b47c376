"""S3 for tests: moto's server as a process, and a proxy before it that misbehaves when told to."""

from __future__ import annotations

import re
import select
import socket
import sys
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import boto3
from botocore.config import Config

from tests.processes import Server, need
from tests.targets.rawserver import RawServer, read_head

KEYS = {"access_key": "AKIATEST", "secret_key": "the secret of tests"}


class S3(Server):
    """An S3 that keeps everything in memory. *tls*: with ``certificate``, which signs itself."""

    ready_within = 60.0

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__()
        self.tls = tls
        self.certificate = self.folder / "server.pem"
        self._key = self.folder / "server.key"

    def prepare(self) -> None:
        if self.tls:
            openssl = need("openssl", "openssl")
            kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
            names = ["-subj", "/CN=s3", "-addext", "subjectAltName=IP:127.0.0.1"]
            files = ["-keyout", str(self._key), "-out", str(self.certificate)]
            self.run([openssl, "req", *kind, *names, *files])

    def command(self) -> list[str]:
        tls = ["-c", str(self.certificate), "-k", str(self._key)] if self.tls else []
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port), *tls]

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def client(self) -> Any:
        """Another client than the one under test."""
        return boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=KEYS["access_key"],
            aws_secret_access_key=KEYS["secret_key"],
            verify=str(self.certificate) if self.tls else None,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def new_bucket(self) -> str:
        name = f"bucket-{uuid.uuid4().hex}"
        self.client.create_bucket(Bucket=name)
        return name

    def held(self, bucket: str) -> dict[str, bytes]:
        """Key → bytes of everything in a bucket."""
        listed = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {each["Key"]: self.client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in listed}

    def entry(self, bucket: str, **options: Any) -> dict[str, Any]:
        """What stands in ``STORAGES`` for a bucket."""
        return {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "bucket_name": bucket,
                "endpoint_url": self.url,
                "region_name": "us-east-1",
                **({"verify": str(self.certificate)} if self.tls else {}),
                **KEYS,
                **options,
            },
        }

    def allow_anybody(self, *, allow: bool) -> None:
        """Whether keys and rights are looked at."""
        count = b"1000000000" if allow else b"0"
        # Of a form, which is what urllib says unless told, moto would not see the text.
        plain = {"Content-Type": "text/plain"}
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset-auth", count, plain)):
            pass


#: Given a request's head and the connection, behind which its body is still to be read. True: it was dealt with.
Trouble = Callable[[bytes, socket.socket], bool]


def refuse(status: int, code: str, *fields: str) -> Trouble:
    """An answer as S3 refuses something, with a secret in its message."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{KEYS['secret_key']}</Message></Error>"

    def trouble(head: bytes, sock: socket.socket) -> bool:
        lines = [
            f"HTTP/1.1 {status} Some Reason",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *fields,
            "",
            "",
        ]
        sock.sendall(("\r\n".join(lines) + ("" if head.startswith(b"HEAD") else body)).encode())
        return True

    return trouble


def hang(head: bytes, sock: socket.socket) -> bool:
    """Take all there is, and say nothing."""
    while sock.recv(65536):
        pass
    return True


class Proxy(RawServer):
    """Before *port*. Each request comes over a connection of its own; ``requests``: method and path of each."""

    def __init__(self, port: int) -> None:
        super().__init__(self._handle)
        self.upstream = port
        self.requests: list[str] = []
        self.heads: list[bytes] = []
        #: What becomes of the next requests; None: they are passed on.
        self.trouble: Trouble | None = None
        #: Changes the bytes of bodies on their way.
        self.mangle: Callable[[bytes], bytes] | None = None

    def count(self, request: str) -> int:
        """Requests of which *request*, a regular expression, finds something in method and path."""
        return sum(bool(re.search(request, each)) for each in self.requests)

    def pass_on(self, head: bytes, sock: socket.socket, *, answer: bool = True) -> None:
        """To S3 and back; or, without an *answer*, only there: the connection ends when S3 has answered."""
        head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        with socket.create_connection(("127.0.0.1", self.upstream)) as upstream:
            upstream.sendall(head)
            while True:
                ready, _, _ = select.select([sock, upstream], [], [], 30)
                for each in ready:
                    data = each.recv(65536)
                    if not data:
                        return
                    if each is sock:
                        upstream.sendall(self.mangle(data) if self.mangle else data)
                    elif answer or data.startswith(b"HTTP/1.1 100"):
                        sock.sendall(data)
                if not ready:
                    return

    def _handle(self, sock: socket.socket) -> None:
        head = read_head(sock)
        self.heads.append(head)
        self.requests.append(" ".join(head.decode("latin-1").split(" ")[:2]))
        with suppress(OSError):
            if self.trouble is None or not self.trouble(head, sock):
                self.pass_on(head, sock)
