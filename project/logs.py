"""How log lines look: the fixed message, then its facts."""

from __future__ import annotations

import logging

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: What Celery and Django add to their records, and is said already or says nothing in one line.
_NOISE = {"data", "request", "status_code", "server_time", "sql", "params", "duration", "alias"}


class FactsFormatter(logging.Formatter):
    """``WARNING replicator.ledger.health: target down target='media1' reason='…'``.

    The package logs fixed messages and keeps the facts in ``extra``, which the standard formatter drops.
    """

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        facts = {k: v for k, v in vars(record).items() if k not in _STANDARD | _NOISE}
        return " ".join([super().formatMessage(record), *(f"{name}={value!r}" for name, value in facts.items())])
