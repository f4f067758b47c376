"""The same view under ASGI."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, AsyncRequestFactory

from replicator.errors import Unavailable
from replicator.targets.httppool import close_all
from replicator.views import serve_mogilefs_file
from tests.serving.conftest import LARGE, Site


async def _pieces(path: str, **headers: str) -> tuple[Any, list[bytes]]:
    client: Any = AsyncClient()
    answer = await client.get(f"/media/{path}", headers=headers)
    try:
        return answer, [piece async for piece in answer.streaming_content]
    finally:
        answer.close()


@pytest.mark.parametrize("here", [True, False], ids=["here", "mogilefs"])
def test_a_file_goes_out_in_pieces(site: Site, here: bool) -> None:
    """Promise 8: Django would read all of an iterator that is not asynchronous before it sends any."""
    (site.save if here else site.store)("a.bin", LARGE)
    answer, pieces = async_to_sync(_pieces)("a.bin")
    assert answer.is_async
    assert len(pieces) > 2
    assert b"".join(pieces) == LARGE
    answer, pieces = async_to_sync(_pieces)("a.bin", Range="bytes=-5")
    assert (answer.status_code, b"".join(pieces)) == (206, LARGE[-5:])


def test_a_node_that_dies_in_mid_stream_is_an_error(site: Site) -> None:
    """The server closes the connection."""
    site.store("a.bin", LARGE)
    for number in (1, 2, 3):
        site.mogilefs.node_cuts(number, 1_000_000)
    with pytest.raises(Unavailable):
        async_to_sync(_pieces)("a.bin")


def test_a_client_that_goes_away_leaves_no_connection(site: Site) -> None:
    """Closing the answer closes what it reads from, with most of it unread."""

    site.store("a.bin", LARGE)
    close_all()
    answer: Any = serve_mogilefs_file(AsyncRequestFactory().get("/"), "a.bin")
    assert answer.is_async
    assert site.connections_to_nodes() == 1
    answer.close()
    assert site.connections_to_nodes() == 0
