"""Several web hosts, each with a disk of its own: three real nodes, one PostgreSQL, one Redis."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Postgres, Redis
from tests.namespaces import EmbeddedOn, Network
from tests.promises.harness import Site, new_database, wait_until
from tests.servers import Embedded, MediaHost

NAMES = ("web1", "web2", "web3")
Nodes = dict[str, Site]


@pytest.fixture
def start(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres, redis: Redis
) -> Iterator[Callable[..., Nodes]]:
    """Start the nodes, with a worker on each and beat on the first; each sees *hosts*."""
    redis.flush()
    network: Network | None = None
    if "network" in request.fixturenames or "machines of their own" in request.node.name:
        network = request.getfixturevalue("network")
    with ExitStack() as stack:

        def begin(hosts: dict[str, MediaHost], *, gone_after: float = 60.0, **given: Any) -> Nodes:
            database, nodes = new_database(postgres, by_socket=True), {}
            for name in NAMES:
                own = hosts.get(name)
                nodes[name] = site = Site(
                    tmp_path / name,
                    hosts,
                    database=database,
                    broker=redis.url,
                    media_root=own.root / "media" if own else None,
                    prefix=network.command(name, []) if network else (),
                    replicator={"NODE": name, "SHARED_MEDIA": False, "NODE_GONE_AFTER": gone_after},
                    **given,
                )
                stack.callback(site.close)
            for site in nodes.values():
                site.workers.append(site.worker(1))
            nodes["web1"].beat()
            return nodes

        yield begin


@pytest.fixture
def hosts(nginx: MediaHost, embedded: MediaHost) -> dict[str, MediaHost]:
    """Media hosts that are no nodes."""
    return {"media1": nginx, "media2": embedded}


def agree(nodes: Nodes, names: dict[str, list[str]], seconds: float = 60.0) -> None:
    """Until the hosts show what is on each node's disk, of the names that were saved there."""
    for node, saved in names.items():
        nodes[node].wait_for_agreement(saved, seconds)


def test_each_node_delivers_what_arrived_on_its_disk(
    start: Callable[..., Nodes], hosts: dict[str, MediaHost]
) -> None:
    """Promise 1, where no other node could read the file."""
    nodes = start(hosts)
    names = {node: [f"{node}/{n}.txt" for n in range(8)] for node in NAMES}
    for node, saved in names.items():
        for name in saved:
            assert nodes[node].operator.call("save", name=name, data=f"{name} of {node}") == name
    agree(nodes, names)
    assert not (nodes["web2"].media_root / "web1").exists(), "the nodes share a disk: this shows nothing"
    assert {row["node"] for row in nodes["web1"].operator.call("rows")} == set(NAMES)
    # A node whose workers stand still keeps its own files waiting, and nobody else's.
    nodes["web2"].workers[0].pause()
    nodes["web2"].operator.call("save", name="waits.txt", data="waits")
    nodes["web3"].operator.call("save", name="goes.txt", data="goes")
    nodes["web3"].wait_for_agreement(["goes.txt"])
    assert nodes["web2"].held("media1", "waits.txt") == "absent"
    nodes["web2"].workers[0].resume()
    nodes["web2"].wait_for_agreement(["waits.txt"])


def test_what_another_node_saved_can_be_read_overwritten_and_deleted(
    start: Callable[..., Nodes], hosts: dict[str, MediaHost]
) -> None:
    """Promise 2 across disks: the last write wins, and no disk keeps an older version."""
    nodes = start(hosts)
    web1, web2, web3 = (nodes[name] for name in NAMES)
    web1.operator.call("save", name="a.txt", data="first")
    web1.operator.call("save", name="b.txt", data="to be deleted")
    web1.wait_for_agreement(["a.txt", "b.txt"])
    assert web2.operator.call("read", name="a.txt") == "first"
    web2.operator.call("overwrite", name="a.txt", data="second")
    web3.operator.call("delete", name="b.txt")
    web2.wait_for_agreement(["a.txt", "b.txt"])
    assert [nodes[name].operator.call("read", name="a.txt") for name in NAMES] == ["second"] * 3
    assert [nodes[name].operator.call("exists", name="b.txt") for name in NAMES] == [False] * 3
    # What web1 has on its disk is none of anybody's any more; beat may have had it removed already.
    assert not (web1.media_root / "a.txt").exists() or (web1.media_root / "a.txt").read_text() == "first"
    assert web1.operator.call("prune")["tombstones"] == 0
    left = lambda: [name for name in ("a.txt", "b.txt") if (web1.media_root / name).exists()]  # noqa: E731
    wait_until(lambda: not left(), say=lambda: (left(), web1.operator.call("tidy_node"), left(), web1.logs()))
    assert (web2.media_root / "a.txt").read_text() == "second"
    assert web1.operator.call("read", name="a.txt") == "second"


def test_two_nodes_that_choose_one_name_at_once_get_two(
    start: Callable[..., Nodes], hosts: dict[str, MediaHost]
) -> None:
    """Only the ledger sees both disks."""
    nodes = start(hosts)
    taken: dict[str, list[str]] = {node: [] for node in NAMES}

    def save(node: str) -> None:
        for number in range(15):
            taken[node].append(nodes[node].operator.call("save", name=f"{number}.txt", data=f"{number} of {node}"))

    threads = [threading.Thread(target=save, args=(node,)) for node in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [name for names in taken.values() for name in names]
    assert len(set(every)) == len(every) == 45
    agree(nodes, taken)


def test_a_node_that_is_gone_for_good_loses_only_what_no_target_had(
    start: Callable[..., Nodes], hosts: dict[str, MediaHost]
) -> None:
    """Its files are delivered from a target that has them; what only it had is reported, and not dropped."""
    nodes = start(hosts, gone_after=3.0)
    web1, web3 = nodes["web1"], nodes["web3"]
    hosts["media2"].kill()
    at_media1 = [f"kept/{n}.txt" for n in range(20)]
    for name in at_media1:
        web3.operator.call("save", name=name, data=f"{name}" * 1000)
    web3.wait_for_agreement(at_media1, hosts=["media1"])
    hosts["media1"].kill()
    web3.operator.call("save", name="lost.txt", data="on one disk only")
    wait_until(lambda: set(web1.operator.call("states").values()) == {"down"})
    kept = {name: (web3.media_root / name).read_bytes() for name in at_media1}
    web3.close()
    shutil.rmtree(web3.media_root)
    for host in hosts.values():
        host.start()
    for name, data in kept.items():
        place = web1.folder / "expected" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    web1.media_root = web1.folder / "expected"
    web1.wait_for_agreement(at_media1)
    # The others do not know of it either, and say so.
    assert web1.operator.call("exists", name="lost.txt"), "the ledger has dropped it"
    errors = lambda: {row["error_text"] for row in web1.operator.call("rows", name="lost.txt")}  # noqa: E731
    wait_until(lambda: errors() == {"only the node web3 had it, which is gone, and no target has it yet"}, say=errors)
    assert {row["status"] for row in web1.operator.call("rows", name="lost.txt")} == {"pending"}
    said = web1.operator.call("status")
    assert "web3: 1 file that only its disk has, and no target yet, such as default: lost.txt" in said, said


def test_a_node_that_was_gone_delivers_what_it_has_when_it_is_back(
    start: Callable[..., Nodes], hosts: dict[str, MediaHost]
) -> None:
    """Whatever the others' attempts said of it meanwhile."""
    nodes = start(hosts, gone_after=2.0)
    web3 = nodes["web3"]
    web3.workers[0].kill()
    web3.operator.call("save", name="late.txt", data="late")
    wait_until(lambda: any(row["attempts"] > 1 for row in web3.operator.call("rows", name="late.txt")))
    web3.worker(1)
    web3.wait_for_agreement(["late.txt"])


@pytest.fixture
def network() -> Iterator[Network]:
    """A network with the nodes as machines of their own, where that is allowed."""
    with Network(NAMES) as network:
        yield network


@pytest.fixture(params=["one network", "machines of their own"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, MediaHost]]:
    """Each node's own media root, as a media host."""
    apart = request.param == "machines of their own"
    with ExitStack() as stack:
        found: dict[str, MediaHost] = {}
        for name in NAMES:
            host = EmbeddedOn(request.getfixturevalue("network"), name) if apart else Embedded()
            host.root = tmp_path / f"disk of {name}"
            found[name] = stack.enter_context(host)
        yield found


def test_nodes_are_each_others_media_hosts(start: Callable[..., Nodes], own: dict[str, MediaHost]) -> None:
    """A file is at its node's own target at once; what others write and delete comes to its disk, and stays right."""
    nodes = start(own, options={name: {"node": name} for name in NAMES})
    web1, web2, web3 = (nodes[name] for name in NAMES)
    for site in nodes.values():
        site.workers[0].pause()
    web1.operator.call("save", name="a.txt", data="first")
    rows = {row["target"]: row["status"] for row in web1.operator.call("rows", name="a.txt")}
    assert rows == {"web1": "synced", "web2": "pending", "web3": "pending"}
    for site in nodes.values():
        site.workers[0].resume()
    for name in NAMES:
        wait_until(lambda name=name: (nodes[name].media_root / "a.txt").exists())
    web2.operator.call("overwrite", name="a.txt", data="second")
    for site in nodes.values():
        site.wait_for_agreement(["a.txt"])
    wait_until(lambda: {(s.media_root / "a.txt").read_text() for s in nodes.values()} == {"second"})
    # Nobody tidies away what came by a target.
    for site in nodes.values():
        site.operator.call("tidy_node")
    assert {(s.media_root / "a.txt").read_text() for s in nodes.values()} == {"second"}
    web3.operator.call("delete", name="a.txt")
    wait_until(lambda: not any((s.media_root / "a.txt").exists() for s in nodes.values()))


def test_nodes_that_overwrite_one_file_all_the_time_end_with_the_last(
    start: Callable[..., Nodes], own: dict[str, MediaHost]
) -> None:
    """Promise 2 where each disk is written by its own node and by the others' deliveries at once."""
    nodes = start(own, options={name: {"node": name} for name in NAMES})
    names = [f"{n}.txt" for n in range(4)]

    def write(number: int, node: str) -> None:
        nodes[node].operator.call("random_writes", seed=number, names=names, count=40)

    threads = [threading.Thread(target=write, args=item) for item in enumerate(NAMES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    web1 = nodes["web1"]

    def settled() -> bool:
        for site in nodes.values():
            site.operator.call("tidy_node")
        return not web1.operator.call("backlog")

    wait_until(settled, 120, say=lambda: web1.operator.call("rows"))
    for name in names:
        held = {alias: web1.held(alias, name) for alias in own}
        assert len(set(held.values())) == 1, held
    expected = {name: web1.operator.call("recorded", name=name) for name in names}
    assert {name: web1.held("web1", name) for name in names} == expected


@pytest.mark.parametrize("own", ["machines of their own"], indirect=True)
def test_a_node_that_was_cut_off_ends_as_the_others(
    start: Callable[..., Nodes], own: dict[str, MediaHost], network: Network
) -> None:
    """Promises 1, 2 and 7 while a cable is out: nothing answers, and nothing is refused either."""
    nodes = start(own, options={name: {"node": name} for name in NAMES})
    web1, web3 = nodes["web1"], nodes["web3"]
    for name in ("a.txt", "b.txt", "c.txt"):
        web1.operator.call("save", name=name, data=f"first {name}")
    for site in nodes.values():
        site.wait_for_agreement(["a.txt", "b.txt", "c.txt"])
    network.cut("web3")
    web1.operator.call("overwrite", name="a.txt", data="second, of web1")
    web3.operator.call("overwrite", name="b.txt", data="second, of web3")
    web1.operator.call("delete", name="c.txt")
    web3.operator.call("overwrite", name="a.txt", data="third, of web3")
    web1.operator.call("save", name="d.txt", data="web2 has it")
    web1.wait_for_agreement(["d.txt"], hosts=["web1", "web2"])
    assert not (web3.media_root / "d.txt").exists()
    # A packet that waits for the address of a card is the kernel's, for three seconds; a doubt window here is one.
    web1.workers[0].pause()
    web3.workers[0].pause()
    time.sleep(4.0)
    network.mend("web3")
    web1.workers[0].resume()
    web3.workers[0].resume()

    def on_disk(name: str) -> set[str]:
        places = [site.media_root / name for site in nodes.values()]
        return {place.read_text() if place.exists() else "absent" for place in places}

    wanted = {"a.txt": "third, of web3", "b.txt": "second, of web3", "c.txt": "absent", "d.txt": "web2 has it"}
    for name, text in wanted.items():
        wait_until(lambda name=name, text=text: on_disk(name) == {text}, 90, say=lambda: web1.operator.call("rows"))
    wait_until(lambda: not web1.operator.call("backlog"))
    for site in nodes.values():
        site.operator.call("tidy_node")
    assert {name: on_disk(name) for name in wanted} == {name: {text} for name, text in wanted.items()}
