"""``python -m tests.mogilefs``: trackers and storage nodes in one process, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import threading
from pathlib import Path

from tests.mogilefs.admin import AdminCommands
from tests.mogilefs.background import Background
from tests.mogilefs.control import Control
from tests.mogilefs.installation import Installation, Timing
from tests.mogilefs.tracker import Tracker
from tests.mogilefs.wire import ErrorAnswer


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mogilefs",
        description="A MogileFS for trying things out: trackers and storage nodes, files on disk.",
        epilog="Domains, classes and nodes are made if they are not there; what is there stays as it is.",
    )
    parser.add_argument("--folder", type=Path, required=True, help="where the database and the files are")
    parser.add_argument(
        "--address", default="127.0.0.1", help="of all of them, as clients know it (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=int, action="append", help="of a tracker; give it again for another one (default: 7001)"
    )
    parser.add_argument("--hosts", type=int, default=3, help="storage nodes (default: 3)")
    parser.add_argument("--devices", type=int, default=2, help="devices of each node (default: 2)")
    parser.add_argument(
        "--node-ports", type=int, nargs="+", default=[], help="one for each host (default: free ones)"
    )
    parser.add_argument("--domain", action="append", help="(default: testdomain); each gets all the classes")
    parser.add_argument(
        "--class",
        dest="classes",
        action="append",
        metavar="NAME:COPIES[:MD5|SHA-1]",
        help="a class and how many copies its files have (default: avatar:2 and thumb:1)",
    )
    parser.add_argument("--control-port", type=int, default=0, help=argparse.SUPPRESS)
    for field in dataclasses.fields(Timing):
        # The delays, for tests.
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, type=float, default=field.default, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.node_ports and len(options.node_ports) != options.hosts:
        parser.error(f"--node-ports: give {options.hosts} ports, one for each host")
    for given in options.classes or []:
        if not given.partition(":")[2].partition(":")[0].isdigit():
            parser.error(f"--class {given}: write NAME:COPIES, for example avatar:2")
    return options


def furnish(installation: Installation, domains: list[str], classes: list[str]) -> None:
    """Make the domains and classes that are not there."""
    commands = AdminCommands(installation)
    for domain in domains:
        if installation.state.dmid(domain.encode()) is None:
            commands.create_domain({"domain": domain.encode()})
        for given in classes:
            name, copies, hashtype = [*given.split(":"), ""][:3]
            args = {"domain": domain, "class": name, "mindevcount": copies, "hashtype": hashtype}
            try:
                commands.create_class({key: value.encode() for key, value in args.items()})
            except ErrorAnswer as problem:
                if problem.code != "class_exists":
                    raise


def main(argv: list[str]) -> int:
    options = arguments(argv)
    timing = Timing(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Timing)})
    installation = Installation(options.folder, timing, options.address)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    try:
        for index in range(options.hosts):
            first = index * options.devices + 1
            port = options.node_ports[index] if options.node_ports else 0
            installation.add_node(list(range(first, first + options.devices)), port)
        domains = options.domain or ["testdomain"]
        furnish(installation, domains, options.classes or ["avatar:2", "thumb:1"])
        trackers = [Tracker(installation, port) for port in options.port or [7001]]
        for tracker in trackers:
            tracker.start()
        background = Background(installation)
        background.start()
        if options.control_port:
            Control(installation, trackers, background, options.control_port).start()
    except (OSError, ErrorAnswer) as problem:
        print(f"mogilefs: {problem}", file=sys.stderr)
        installation.close()
        return 1
    places = ", ".join(f"{options.address}:{tracker.port}" for tracker in trackers)
    nodes = ", ".join(f"{options.address}:{node.port}" for node in installation.nodes.values())
    print(f"MogileFS is ready: tracker {places}; domain {', '.join(domains)}; nodes {nodes}", flush=True)
    done.wait()
    for tracker in trackers:
        tracker.stop()
    installation.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
