"""One line of log for each event, as ``key=value`` pairs on standard error."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

# On each look they say where they found credentials; and on level debug what they signed, which is nobody's to read.
_NO_NEWS = ("boto3", "botocore", "s3transfer", "urllib3")
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+:/@%,")


class LineFormatter(logging.Formatter):
    """``time=... level=info from=service event="..." database=orders``; facts come from ``extra={"facts": ...}``."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; a traceback stays in it, with its line ends written as ``\\n``."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts = {
            "time": at,
            "level": record.levelname.lower(),
            "from": record.name,
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return " ".join(f"{name}={quoted(value)}" for name, value in facts.items())


def quoted(value: object) -> str:
    """The value bare when it may be, else in double quotes with escapes."""
    text = str(value)
    if text and all(character in _BARE for character in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def log_to_stderr(level: str) -> None:
    """Send every logger of this process to standard error in this form; of libraries that chatter only warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _NO_NEWS:
        logging.getLogger(name).setLevel(logging.WARNING)
