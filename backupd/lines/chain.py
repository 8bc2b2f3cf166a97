"""The lines of the service and of its runs, put together by structlog: the steps of entry.py, and facts of one task."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

import structlog

from backupd.lines.entry import RENDERERS, STEPS
from backupd.lines.settings import LineForm


def formatter(form: LineForm) -> logging.Formatter:
    """What makes a line of a record, be it of logging or of structlog."""
    merged: Any = structlog.contextvars.merge_contextvars
    steps: list[Any] = [*STEPS, RENDERERS[form]]
    structlog.configure(
        processors=[merged, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=[merged], processors=steps)


def within(**facts: str) -> AbstractContextManager[None]:
    """Lines of this task, in this thread, carry these facts until the block ends."""
    return structlog.contextvars.bound_contextvars(**facts)
