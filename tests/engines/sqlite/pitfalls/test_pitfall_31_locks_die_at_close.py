"""Pitfall 31: POSIX locks die when any descriptor of the file is closed in the process that holds them.

So in the capture process nothing may open and close the database or its
``-shm`` besides ActiveFile, which never closes them.  Shown first, then kept by
the system calls of a real run, then by the text of every module of the process.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import backupd
from tests.engines.sqlite.pitfalls.world import OrderFailed, World


def test_pitfall_31_this_is_what_happens(world: World) -> None:
    """``close(open("app.db-shm"))`` in the capture process: a writer gets past the lock of the seal.

    If this ever passes the other way round, SQLite has changed to locks of open files, and the guards may go.
    """
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    assert agent.value("capture.hands.source.lock_write()")
    with pytest.raises(OrderFailed):
        app.write("kept out")
    agent.run(f"os.close(os.open({str(world.shm)!r}, os.O_RDONLY))")
    app.write("got in")
    assert agent.value("capture.hands.source._locker.in_transaction")


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here, and the system calls are the proof")
def test_pitfall_31_no_descriptor_is_closed_until_exit(world: World) -> None:
    """All that a capture does (cut, seal, seed, gap, truncate, look at names), watched from outside."""
    trace = world.directory / "trace"
    calls = "trace=open,openat,close,dup,dup2,dup3,close_range"
    app, agent = world.writing_app(), world.agent(["strace", "-f", "-y", "-e", calls, "-o", str(trace)])
    agent.begin()
    for word in "abc":
        app.write(word, rows=3)
        agent.tick()
    assert agent.seal()
    app.write("restarts the log")
    agent.tick()
    agent.run("from backupd.engines.sqlite.beginning import seed_again; seed_again(capture, 'asked for')")
    agent.run("capture.hands.marks.release_all()")
    agent.begin("after a gap")
    agent.run("capture.hands.source.other_readers_in_log(); capture.hands.source.blocking_checkpoint()")
    agent.run("capture.save_map(); capture.write_state(); capture.facts(); capture.finish()")
    agent.end()
    ours = re.compile(rf"<{re.escape(str(world.path))}(-shm)?>")
    lines = [line for line in trace.read_text().splitlines() if ours.search(line)]
    opened_shm = next(number for number, line in enumerate(lines) if f"<{world.shm}>" in line)
    before, after = lines[:opened_shm], lines[opened_shm:]
    assert [line for line in after if "close" in line or "dup" in line] == []
    assert sum("close(" in line for line in before) <= 1  # the look at the header, before there is any lock
    assert len([line for line in after if "open" in line]) >= 2


# Which modules of the capture process open something, how, and what it is.
OPENS = {
    "begin.py": {"open"},  # the -wal, where no locks live
    "capture_config.py": {"read_text"},  # its configuration
    "control_wire.py": {"os.open"},  # the directory of a socket
    "durable.py": {"os.open", "read_bytes"},  # the state directory
    "holders.py": {"read_bytes", "read_text"},  # /proc
    "locks.py": {"os.open"},  # lock files of our own
    "logfile.py": {"open", "os.open"},  # log files and their directory
    "pairfile.py": {"os.open"},  # the directory of the pair file
    "pagemap.py": {"open", "os.open", "read_bytes"},  # maps and log files (a database only on the passive's side)
    "seed.py": {"os.open"},  # the seed
    "source.py": {"open", "os.open", "sqlite3.connect"},  # ActiveFile; the plain open is before there is any lock
    "steps.py": {"open"},  # the trace of steps
}


def modules_of_capture() -> dict[str, Path]:
    """The modules of ours that the capture process has loaded, by file name."""
    code = (
        "import sys, backupd.engines.sqlite.capture_process\n"
        "for one in list(sys.modules.values()):\n"
        "    if one.__name__.startswith('backupd'): sys.stdout.write(one.__file__ + chr(10))\n"
    )
    root = Path(backupd.__file__).parent.parent
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return {Path(line).name: Path(line) for line in found.stdout.split()}


def opens(text: str) -> Counter[str]:
    """What in this text opens a file, by how."""
    found: Counter[str] = Counter()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"open", "io.open", "os.open", "os.fdopen", "os.dup", "sqlite3.connect", "shutil.copyfile"}:
                found[called] += 1
            elif called.endswith((".read_bytes", ".read_text", ".write_bytes", ".write_text", ".open", ".touch")):
                found[called.rpartition(".")[2]] += 1
    return found


def test_pitfall_31_only_active_file_opens_the_database() -> None:
    """A new place that opens anything in this process must be looked at, and entered above with what it opens."""
    texts = {name: path.read_text() for name, path in modules_of_capture().items()}
    assert {name: set(found) for name, text in texts.items() if (found := opens(text))} == OPENS
    assert opens(texts["source.py"]) == {"open": 1, "os.open": 3, "sqlite3.connect": 1}
    assert "os.close" not in texts["source.py"]
    assert ".close()" not in texts["source.py"]


def test_pitfall_31_the_guard_sees_what_it_looks_for() -> None:
    """The guard itself: each way to open is counted."""
    text = "import os\nopen('a')\nos.open('b', 0)\nPath('c').read_bytes()\nPath('d').open()\n"
    assert opens(text) == {"open": 2, "os.open": 1, "read_bytes": 1}
