"""What travels over a control socket: messages, failures, and a name of the socket that always fits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backupd import errors
from backupd.errors import BackupdError, NotHealthy

LINE_BYTES_MAX = 1 << 20

Message = dict[str, Any]


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name of the socket that always fits in sockaddr_un (108 bytes; unix(7))."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def error_to_message(error: BackupdError) -> Message:
    """The failure as it travels."""
    return {
        "error": {
            "kind": type(error).__name__,
            "problem": error.problem,
            "because": error.because,
            "next_step": error.next_step,
        }
    }


def error_from_message(message: Message) -> BackupdError:
    """The failure as it was raised on the other side."""
    facts = message["error"]
    kind = getattr(errors, str(facts.get("kind")), NotHealthy)
    if not (isinstance(kind, type) and issubclass(kind, BackupdError)):
        kind = NotHealthy
    return kind(str(facts.get("problem")), because=str(facts.get("because")), next_step=str(facts.get("next_step")))
