"""Real processes that hold real files are found, and nobody else is."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from backupd.engines.sqlite.holders import lock_holders, processes_using

# The write lock of WAL mode. Source: SQLite's WAL-mode File Format, 2.3.1: bytes 120 to 127 of the shm file.
WAL_WRITE_LOCK = 120

OPEN = "import sys; file = open(sys.argv[1], 'rb')"
MAP = """
import mmap, os, sys
file = open(sys.argv[1], "r+b")
mapped = mmap.mmap(file.fileno(), 0)
os.closerange(3, 256)  # mmap keeps a descriptor of its own
"""
WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE t (a)")
connection.execute("BEGIN IMMEDIATE")
"""


@contextmanager
def process(code: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", code + "\nprint('ready', flush=True)\nsys.stdin.read()", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        try:
            yield started
        finally:
            started.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "app.db"
    made.write_bytes(b"x" * 8192)
    return made


def test_nobody_uses_a_file_that_nobody_opened(path: Path) -> None:
    assert processes_using([path, path.parent / "missing"]).processes == ()


def test_a_process_that_has_it_open_is_named(path: Path) -> None:
    with process(OPEN, path) as other:
        (use,) = processes_using([path.parent / "missing", path]).processes
        assert (use.pid, use.path) == (other.pid, str(path))
        assert sys.executable in use.command
        assert processes_using([path], except_pids=[other.pid]).processes == ()
    assert processes_using([path]).processes == ()


def test_a_mapping_without_a_descriptor_counts(path: Path) -> None:
    with process(MAP, path) as other:
        assert [use.pid for use in processes_using([path]).processes] == [other.pid]


def test_another_name_is_the_same_file(path: Path) -> None:
    link = path.parent / "link"
    link.symlink_to(path)
    hard = path.parent / "hard"
    hard.hardlink_to(path)
    with process(OPEN, link) as other:
        assert {use.pid for use in processes_using([hard]).processes} == {other.pid}


def test_a_new_file_of_the_same_name_is_not_the_same_file(path: Path) -> None:
    with process(OPEN, path):
        path.rename(path.parent / "old")
        path.write_bytes(b"new")
        assert processes_using([path]).processes == ()


def test_this_process_is_found_too_unless_excepted(path: Path) -> None:
    with path.open("rb"):
        assert [use.pid for use in processes_using([path]).processes] == [os.getpid()]
        assert processes_using([path], except_pids={os.getpid()}).processes == ()


def test_a_plain_sqlite_program_is_found_with_its_locks(path: Path) -> None:
    path.unlink()
    wal, shm = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    with process(WRITE, path) as other:
        uses = processes_using([path, wal, shm]).processes
        assert {(use.pid, use.path) for use in uses} == {(other.pid, str(file)) for file in (path, wal, shm)}
        (write,) = [lock for lock in lock_holders(shm) if lock.kind == "WRITE"]
        assert (write.pid, write.first, write.last) == (other.pid, WAL_WRITE_LOCK, WAL_WRITE_LOCK)
    assert lock_holders(shm) == ()
    assert lock_holders(path.parent / "missing") == ()


def test_looking_drops_no_lock_of_this_process(path: Path) -> None:
    """Whoever opens and closes a file loses his POSIX locks on it; looking must not open it."""
    path.unlink()
    shm = path.with_name(path.name + "-shm")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (a)")
        connection.execute("BEGIN IMMEDIATE")
        before = lock_holders(shm)
        assert before
        processes_using([path, shm])
        assert lock_holders(shm) == before


@pytest.mark.root
def test_a_plain_user_is_told_what_he_cannot_see(path: Path) -> None:
    for above in path.parents:
        if not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o001)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            uses = processes_using([path])
            os._exit(0 if "run as root" in uses.unseen and not uses.processes else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.real
@pytest.mark.root
def test_btrfs_tells_other_devices_and_is_understood(btrfs_mount: Path) -> None:
    path = btrfs_mount / "held.db"
    with process(WRITE, path) as other:
        shm = path.with_name(path.name + "-shm")
        assert other.pid in {lock.pid for lock in lock_holders(shm)}
        assert {use.pid for use in processes_using([shm]).processes} == {other.pid}
