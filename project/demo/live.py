"""A live site's S3: moto's server with a bucket that is full, and keys that are looked at.

``python -m project.demo.live --port N --objects N`` answers on standard input and output, as JSON lines, what is not
for its clients: what it was asked, what it holds, whether it is in trouble. It ends with its standard input.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any, Self

from project.demo.livefiles import LiveFiles
from project.embedded import ADDRESS, any_port

BUCKET = "live"
REGION = "us-east-1"
#: What a staging site needs, and no more.
RIGHTS = ["s3:GetObject", "s3:ListBucket"]


class Live:
    """The server, as a process. A context manager."""

    def __init__(self, objects: int) -> None:
        self.port = any_port()
        self.url = f"http://{ADDRESS}:{self.port}"
        self._command = [sys.executable, "-m", "project.demo.live", "--port", str(self.port), "--objects"]
        self._command.append(str(objects))
        self._process: subprocess.Popen[str] | None = None
        #: Access key and secret key that read, and that may do everything with the bucket.
        self.staging_keys = self.owner_keys = ("", "")

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603  # our own program, our own arguments
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.staging_keys, self.owner_keys = map(tuple, self._ask("keys"))
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()

    def environment(self) -> dict[str, str]:
        """Of a site that is its staging site: settings, as environment variables."""
        access_key, secret_key = self.staging_keys
        options = {"BUCKET": BUCKET, "ENDPOINT_URL": self.url, "REGION": REGION}
        options |= {"ACCESS_KEY": access_key, "SECRET_KEY": secret_key}
        return {f"STAGING_S3_{name}": value for name, value in options.items()}

    def state(self) -> dict[str, Any]:
        """All that it holds: key → size, ETag, time and SHA-256; and its unfinished uploads."""
        found: dict[str, Any] = self._ask("state")
        return found

    def requests(self) -> list[dict[str, Any]]:
        """Each that came for the bucket: when it did, method, key, query, and the answer's status."""
        found: list[dict[str, Any]] = self._ask("requests")
        return found

    def fetched(self) -> int:
        """How often it began to give away an object."""
        return int(self._ask("fetched"))

    def say_503(self, *, to_everything: bool) -> None:
        """*to_everything*: from now on, until told otherwise."""
        self._ask("trouble" if to_everything else "no trouble")

    def _ask(self, question: str) -> Any:
        assert self._process is not None  # noqa: S101  # for the type checker
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline() or '"It ended: see above."')


class _Server:
    """In its own process: moto's application behind one that counts, and fails when told to."""

    def __init__(self, port: int, objects: int) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel("WARNING")  # else a line for each request
        self.application: Any = DomainDispatcherApplication(create_backend_app)
        self.url = f"http://{ADDRESS}:{port}"
        self.in_trouble = False
        self.requests: list[dict[str, Any]] = []
        server = make_server(ADDRESS, port, self._answer, threaded=True, request_handler=MotoRequestHandler)
        Thread(target=server.serve_forever, daemon=True).start()
        self._fill(objects)
        self.keys = [self._new_keys("staging", RIGHTS), self._new_keys("owner", ["s3:*"])]
        # Rights are looked at from here on. Of a form, which is what urllib says unless told, moto would see nothing.
        plain = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.url}/moto-api/reset-auth", b"0", plain)  # noqa: S310  # our own
        urllib.request.urlopen(request).close()  # noqa: S310

    def answers(self) -> dict[str, Callable[[], Any]]:
        return {
            "keys": lambda: self.keys,
            "state": self._state,
            "requests": lambda: self.requests,
            "fetched": lambda: sum(map(is_fetch, self.requests)),
            "trouble": lambda: setattr(self, "in_trouble", True),
            "no trouble": lambda: setattr(self, "in_trouble", False),
        }

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        bucket, _, key = environ["PATH_INFO"].encode("latin-1").decode().lstrip("/").partition("/")
        if bucket != BUCKET:
            return self.application(environ, start)
        request = {"at": time.time(), "method": environ["REQUEST_METHOD"], "key": key, "status": 0}
        request["query"] = environ["QUERY_STRING"]
        self.requests.append(request)

        def start_noted(status: str, *arguments: Any) -> Any:
            request["status"] = int(status.split()[0])
            return start(status, *arguments)

        if self.in_trouble:
            start_noted("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        return self.application(environ, start_noted)

    def _client(self, service: str) -> Any:
        import boto3

        keys = {"aws_access_key_id": "anybody", "aws_secret_access_key": "anybody"}
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, **keys)

    def _fill(self, objects: int) -> None:
        self._client("s3").create_bucket(Bucket=BUCKET)
        files = LiveFiles(objects)
        # Not over HTTP, where moto takes some hundreds in a second.
        for key in (*files.sizes, *files.unnamed):
            _backend().put_object(BUCKET, key, files.content(key))
        self.requests.clear()

    def _new_keys(self, user: str, rights: list[str]) -> list[str]:
        iam = self._client("iam")
        iam.create_user(UserName=user)
        bucket = f"arn:aws:s3:::{BUCKET}"
        statement = {"Effect": "Allow", "Action": rights, "Resource": [bucket, f"{bucket}/*"]}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=user, PolicyName=user, PolicyDocument=document)
        made = iam.create_access_key(UserName=user)["AccessKey"]
        return [made["AccessKeyId"], made["SecretAccessKey"]]

    def _state(self) -> dict[str, Any]:
        bucket = _backend().get_bucket(BUCKET)
        objects = {
            each.name: [each.size, each.etag, each.last_modified.isoformat(), hashlib.sha256(each.value).hexdigest()]
            for each in bucket.keys.values()
        }
        return {"objects": objects, "uploads": sorted(bucket.multiparts), "buckets": sorted(_backend().buckets)}


def is_fetch(request: Mapping[str, Any]) -> bool:
    """Whether it was answered with an object, or a part of one."""
    return bool(request["method"] == "GET" and request["key"] and request["status"] in (200, 206))


def _backend() -> Any:
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="project.demo.live", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--objects", type=int, required=True)
    options = parser.parse_args()
    answers = _Server(options.port, options.objects).answers()
    for line in sys.stdin:
        print(json.dumps(answers[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()
