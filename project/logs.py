"""How log lines look: the fixed message, then its facts; or all of it as JSON."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from celery import current_task

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: What Celery and Django add to their records, and is said already or says nothing in one line.
_NOISE = {"data", "request", "status_code", "server_time", "sql", "params", "duration", "alias"}


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts = {k: v for k, v in vars(record).items() if k not in _STANDARD | _NOISE}
    # What is logged in another thread than the task's says it itself.
    if "task" not in facts and current_task and current_task.request.id:
        facts["task"] = current_task.request.id
    return facts


class FactsFormatter(logging.Formatter):
    """``WARNING replicator.ledger.health: target down target='media1' reason='…'``.

    The package logs fixed messages and keeps the facts in ``extra``, which the standard formatter drops.
    """

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        facts = _facts(record)
        return " ".join([super().formatMessage(record), *(f"{name}={value!r}" for name, value in facts.items())])


class JSONFormatter(logging.Formatter):
    """``{"time": "2026-11-21T14:00:00.123456+00:00", "level": "WARNING", "logger": "…", "message": "target down",
    "target": "media1", …}``: one line for each event."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        # A fact must not hide what each event has.
        event |= {name if name not in event else f"{name}_": value for name, value in _facts(record).items()}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            event["stack"] = self.formatStack(record.stack_info)
        return json.dumps(event, default=str, ensure_ascii=False)
