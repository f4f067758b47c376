"""How a tour waits: for how long at most, what it says meanwhile, and that nothing it waits for has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from tqdm import tqdm

from project.demo.saving import Failed
from project.processes import Processes

T = TypeVar("T")


class Pace:
    """What tours have in common. *limit*: seconds, for all of one."""

    def __init__(self, processes: Processes, limit: float) -> None:
        self.processes = processes
        self.end = time.monotonic() + limit
        self.limit = limit

    def _step(self, text: str) -> None:
        print(f"• {text}", flush=True)

    def _each(self, items: list[T], word: str) -> Iterator[T]:
        for item in tqdm(items, unit="files", desc=f"  {word}", disable=None):
            self._check_time("files were being saved.")
            yield item
        print(f"  {len(items)} {word}", flush=True)

    def _waiting(self, target: str = "") -> int:
        from replicator.models import Replica

        backlog = Replica.objects.backlog()
        return (backlog.at(target) if target else backlog).count()

    def _examples(self) -> str:
        from replicator.models import Replica

        rows = Replica.objects.backlog().select_related("file")[:5]
        return "\n".join(f"  {r.file.name} at {r.target}: {r.status} {r.error_kind} {r.error_text}" for r in rows)

    def _until_in_step(self, target: str = "") -> None:
        self._until(lambda: not self._waiting(target), f"{target or 'every host'} to have everything so far")

    def _until_synced(self) -> None:
        """Until the ledger has no backlog. It only says when to look: what is there, the hosts say."""
        total = self._waiting()
        with tqdm(total=total, unit="replicas", desc="  synced", disable=None) as bar:
            while left := self._waiting():
                bar.n = max(bar.n, total - left)
                bar.refresh()
                self._check_time(f"{left} replicas are still pending or failed:\n{self._examples()}")
                self.processes.check()
                time.sleep(0.3)
            bar.n = total
            bar.refresh()

    def _until(self, condition: Callable[[], object], what: str, every: float = 0.1) -> None:
        while not condition():
            self._check_time(f"it waited for {what}.\n{self._examples()}")
            self.processes.check()
            time.sleep(every)

    def _check_time(self, doing: str) -> None:
        if time.monotonic() > self.end:
            raise Failed(f"The {self.limit:.0f} seconds are over (--limit), and {doing}")
