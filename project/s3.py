"""The embedded S3: moto's server with one bucket, in memory, for whoever signs with any key.

``python -m project.s3 --port N --bucket NAME [--bind 127.0.0.1]``
"""

from __future__ import annotations

import argparse
import logging
import signal

import boto3
from moto.moto_server.threaded_moto_server import ThreadedMotoServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="project.s3", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on; default: %(default)s")
    options = parser.parse_args()
    endings = {signal.SIGTERM, signal.SIGINT}
    # Before there are threads, so that none of them gets it.
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    server = ThreadedMotoServer(options.bind, options.port, verbose=False)
    logging.getLogger("werkzeug").setLevel("WARNING")  # else a line for each request
    server.start()
    url = f"http://{options.bind}:{options.port}"
    keys = {"aws_access_key_id": "demo", "aws_secret_access_key": "demo"}
    boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(Bucket=options.bucket)
    signal.sigwait(endings)


if __name__ == "__main__":
    main()
