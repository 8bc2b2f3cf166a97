"""A lease has one holder, who is named, and a dead holder has none."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupd.errors import Busy, NotHealthy
from backupd.journal.lease import RunLease, lease_holder

NOW = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)

HOLD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from backupd.journal.lease import RunLease
with RunLease(Path(sys.argv[1]), run="backup of orders", now=lambda: datetime(2026, 11, 22, tzinfo=UTC)):
    print("held", flush=True)
    sys.stdin.read()
"""


def lease(path: Path, run: str = "a test") -> RunLease:
    return RunLease(path, run=run, now=lambda: NOW)


@contextmanager
def held_by_another(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_second_one_is_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "orders" / "run.lock"
    with held_by_another(path) as process:
        with pytest.raises(Busy) as caught, lease(path):
            pytest.fail("two holders")
        assert caught.value.exit_status == 9
        said = "\n".join(caught.value.lines())
        assert str(process.pid) in said
        assert "2026-11-22" in said
        assert "backup of orders" in said
        assert sys.executable in said
        holder = lease_holder(path)
        assert holder is not None
        assert (holder.pid, holder.run) == (process.pid, "backup of orders")


def test_death_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with held_by_another(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.read_text()  # the dead one's name is still inside, and means nothing
        assert lease_holder(path) is None
        with lease(path):
            holder = lease_holder(path)
            assert holder is not None
            assert holder.pid == os.getpid()


def test_it_is_free_after_the_block_and_may_be_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    mine = lease(path)
    for _ in range(2):
        with mine:
            with pytest.raises(Busy):
                lease(path).acquire()
            assert lease_holder(path) is not None
        assert lease_holder(path) is None
    mine.release()


def test_a_raise_inside_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with pytest.raises(KeyError), lease(path):
        raise KeyError
    assert lease_holder(path) is None


def test_asking_makes_nothing(tmp_path: Path) -> None:
    assert lease_holder(tmp_path / "none" / "run.lock") is None
    assert list(tmp_path.iterdir()) == []


def _wait_for_pipe(reader: int) -> None:
    os.read(reader, 1)


def test_a_forked_child_does_not_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    reader, writer = os.pipe()
    mine = lease(path)
    mine.acquire()
    child = multiprocessing.get_context("fork").Process(target=_wait_for_pipe, args=(reader,))
    child.start()
    try:
        with pytest.raises(Busy):
            lease(path).acquire()
        mine.release()
        with lease(path):
            pass
    finally:
        os.write(writer, b"x")
        child.join()
        os.close(reader)
        os.close(writer)


def _release(mine: RunLease) -> None:
    mine.release()


def test_a_forked_child_cannot_free_it(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with lease(path) as mine:
        child = multiprocessing.get_context("fork").Process(target=_release, args=(mine,))
        child.start()
        child.join()
        assert child.exitcode == 0
        with pytest.raises(Busy):
            lease(path).acquire()


def test_it_is_private(tmp_path: Path) -> None:
    path = tmp_path / "orders" / "run.lock"
    with lease(path):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_place_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotHealthy):
        lease(tmp_path / "file" / "run.lock").acquire()
