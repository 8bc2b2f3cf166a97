"""What runs are forked from has loaded what runs need."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from backupd.service.preloaded import ANY_RUN, IN_A_BUCKET, OF_ENGINE


@pytest.mark.parametrize("name", [*ANY_RUN, *IN_A_BUCKET, *(name for names in OF_ENGINE.values() for name in names)])
def test_each_room_exists(name: str) -> None:
    """A forkserver says nothing of a name that it cannot load."""
    importlib.import_module(name)


def test_they_begin_no_thread_that_a_fork_would_lose() -> None:
    names = [*ANY_RUN, *IN_A_BUCKET, *OF_ENGINE["sqlite"], *OF_ENGINE["postgres"]]
    program = (
        f"import importlib, threading\nfor name in {names!r}: importlib.import_module(name)\n"
        "from pathlib import Path\n"
        "print(threading.active_count(), len(list(Path('/proc/self/task').iterdir())))"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # as the service sets it
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert told.split() == ["1", "1"]
