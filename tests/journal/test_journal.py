"""The journal keeps each fact through threads, processes, kills and full disks."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupd import steps
from backupd.errors import Busy, DamageFound, InjectedFault, NotFound, NotHealthy
from backupd.journal import book
from backupd.journal.journal import Journal
from backupd.journal.records import Attempt, RunKind, TruncationNote
from backupd.model.position import Position
from backupd.model.records import Hold
from backupd.model.states import FINAL_STATES, IllegalMove, RunEvent, RunState
from backupd.process import is_alive, this_process

WHOLE_WALK = [
    RunEvent.PREPARE,
    RunEvent.FREEZE,
    RunEvent.CAPTURE,
    RunEvent.THAW,
    RunEvent.CHECK,
    RunEvent.STORE,
    RunEvent.PROVE,
    RunEvent.STAMP,
    RunEvent.COMPLETE,
]


class Ticking:
    """A clock that is one second later at every look."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "state" / "journal.db", now=Ticking())
    yield made
    made.close()


def begin(journal: Journal, database: str = "orders", label: str = "") -> str:
    return journal.begin_run(database=database, kind=RunKind.BACKUP, type="full", label=label).id


def test_a_run_that_begins_is_read_back_as_it_was(journal: Journal) -> None:
    run = journal.begin_run(
        database="orders", kind=RunKind.BACKUP, type="full", label="L1", facts={"provider": "btrfs", "sizes": [1, 2]}
    )
    assert journal.run(run.id) == run
    assert run.state is RunState.PLANNED
    assert run.process == this_process()
    assert journal.run_of_label("L1") == run
    assert journal.run_of_label("") is None
    assert journal.run_of_label("L2") is None


def test_a_backup_walks_the_table_and_its_diary_tells_so(journal: Journal) -> None:
    run_id = begin(journal)
    for event in WHOLE_WALK:
        assert journal.run(run_id).finished_at is None
        journal.move(run_id, event, **{f"at_{event}": True})
    run = journal.run(run_id)
    assert run.state is RunState.COMPLETE
    assert run.finished_at is not None
    assert set(run.facts) == {f"at_{event}" for event in WHOLE_WALK}
    diary = journal.transitions(run_id)
    assert [entry.event for entry in diary] == ["begin", *WHOLE_WALK]
    assert all(entry.says for entry in diary)
    assert [entry.from_state for entry in diary[1:]] == [entry.to_state for entry in diary[:-1]]
    assert [entry.at for entry in diary] == sorted(entry.at for entry in diary)


def test_an_illegal_move_changes_nothing(journal: Journal) -> None:
    run_id = begin(journal)
    before = (journal.run(run_id), journal.transitions(run_id))
    with pytest.raises(IllegalMove, match="planned cannot capture"):
        journal.move(run_id, RunEvent.CAPTURE, bytes=1)
    assert (journal.run(run_id), journal.transitions(run_id)) == before


def test_a_pending_run_rests_and_may_go_on_later(journal: Journal) -> None:
    run_id = begin(journal)
    for event in [*WHOLE_WALK[:-2], RunEvent.POSTPONE]:
        journal.move(run_id, event)
    assert journal.run(run_id).finished_at is not None
    assert journal.in_progress() == []
    journal.move(run_id, RunEvent.STAMP)
    assert [run.id for run in journal.in_progress()] == [run_id]
    journal.move(run_id, RunEvent.COMPLETE)
    assert journal.in_progress() == []


def test_other_kinds_end_at_once_and_only_once(journal: Journal) -> None:
    run = journal.begin_run(database="orders", kind=RunKind.RESTORE)
    journal.note(run.id, "the stage is half full", done_bytes=5)
    with pytest.raises(IllegalMove):
        journal.finish(run.id, RunState.FROZEN, "cannot be")
    journal.finish(run.id, RunState.COMPLETE, "restored", done_bytes=10)
    with pytest.raises(IllegalMove):
        journal.finish(run.id, RunState.FAILED, "again")
    after = journal.run(run.id)
    assert (after.state, after.facts) == (RunState.COMPLETE, {"done_bytes": 10})
    assert [entry.event for entry in journal.transitions(run.id)] == ["begin", "note", "finish"]


def test_a_backup_does_not_end_past_the_table(journal: Journal) -> None:
    run_id = begin(journal)
    with pytest.raises(IllegalMove, match="table of states"):
        journal.finish(run_id, RunState.COMPLETE, "by magic")
    assert journal.run(run_id).state is RunState.PLANNED


def test_runs_are_listed_newest_first_and_by_what_was_asked(journal: Journal) -> None:
    first, second = begin(journal), begin(journal, "other")
    verify = journal.begin_run(database="orders", kind=RunKind.VERIFY)
    journal.move(first, RunEvent.REFUSE)
    assert [run.id for run in journal.runs()] == [verify.id, second, first]
    assert [run.id for run in journal.runs("orders")] == [verify.id, first]
    assert [run.id for run in journal.runs("orders", RunKind.BACKUP)] == [first]
    assert [run.id for run in journal.runs(state=RunState.REFUSED)] == [first]
    assert [run.id for run in journal.runs(limit=1)] == [verify.id]
    assert [run.id for run in journal.in_progress("other")] == [second]


def test_a_label_given_later_finds_the_backup_run_and_not_its_verify(journal: Journal) -> None:
    run_id = begin(journal)
    journal.set_label(run_id, "L7")
    journal.begin_run(database="orders", kind=RunKind.VERIFY, label="L7")
    found = journal.run_of_label("L7")
    assert found is not None
    assert found.id == run_id


def test_an_unknown_run_is_not_found(journal: Journal) -> None:
    for ask in (
        lambda: journal.run("nobody"),
        lambda: journal.move("nobody", RunEvent.ABORT),
        lambda: journal.note("nobody", "hello"),
        lambda: journal.set_label("nobody", "L"),
        lambda: journal.finish("nobody", RunState.FAILED, "gone"),
    ):
        with pytest.raises(NotFound):
            ask()


BEGIN_AND_WAIT = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from backupd.journal.journal import Journal
from backupd.journal.records import RunKind
from backupd.model.states import RunEvent
journal = Journal(Path(sys.argv[1]), now=lambda: datetime.now(UTC))
run = journal.begin_run(database="orders", kind=RunKind.BACKUP, type="full")
journal.move(run.id, RunEvent.PREPARE)
print(run.id, flush=True)
sys.stdin.read()
"""


def test_a_run_is_abandoned_only_when_its_process_is_dead(journal: Journal) -> None:
    mine = begin(journal)
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN_AND_WAIT, str(journal.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        theirs = other.stdout.readline().strip()
        assert [run.id for run in journal.in_progress()] == sorted([mine, theirs], key=lambda i: i != mine)
        assert journal.abandoned() == []
        other.send_signal(signal.SIGSTOP)  # a stopped process may go on
        assert journal.abandoned() == []
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        # Even before its parent has asked for its exit status: a zombie writes no more.
        assert [run.id for run in journal.abandoned()] == [theirs]
        other.wait()
    assert [run.id for run in journal.abandoned("orders")] == [theirs]
    assert journal.abandoned("other") == []
    journal.move(theirs, RunEvent.ABORT)
    assert journal.abandoned() == []


def test_a_reused_pid_and_an_earlier_boot_are_other_processes() -> None:
    here = this_process()
    assert is_alive(here)
    assert not is_alive(replace(here, started_ticks=here.started_ticks + 1))
    assert not is_alive(replace(here, boot_id="another boot"))


def hold(holder: str, offset: int, database: str = "orders", minute: int = 0) -> Hold:
    return Hold(holder, database, Position("00ff", offset), "a run", datetime(2026, 11, 22, 1, minute, tzinfo=UTC))


def test_holds_are_placed_replaced_listed_and_released(journal: Journal) -> None:
    journal.place_hold(hold("run-2", 20, minute=2))
    journal.place_hold(hold("run-1", 10, minute=1))
    journal.place_hold(hold("run-1", 5, "other", minute=3))
    journal.place_hold(hold("run-2", 2**62, minute=2))
    assert journal.holds("orders") == [hold("run-1", 10, minute=1), hold("run-2", 2**62, minute=2)]
    assert len(journal.holds()) == 3
    assert journal.release_hold("orders", "run-1")
    assert not journal.release_hold("orders", "run-1")
    assert [(held.database, held.holder) for held in journal.holds()] == [("orders", "run-2"), ("other", "run-1")]


def test_the_last_truncation_note_of_a_label_counts(journal: Journal) -> None:
    at = datetime(2026, 11, 22, 1, tzinfo=UTC)
    kept = TruncationNote("L1", "orders", "kept", None, ("the passive is suspended", "a hold"), at, {"n": 1})
    done = TruncationNote("L1", "orders", "truncated", Position("00ff", 7), (), at)
    assert journal.truncation("L1") is None
    journal.record_truncation(kept)
    assert journal.truncation("L1") == kept
    journal.record_truncation(done)
    assert journal.truncation("L1") == done


def test_attempts_are_kept_per_slot(journal: Journal) -> None:
    at = datetime(2026, 11, 22, 1, tzinfo=UTC)
    tries = [Attempt("orders", "full@2026-11-22", f"run-{n}", "aborted", at) for n in range(3)]
    for one in tries:
        journal.record_attempt(one)
    journal.record_attempt(Attempt("orders", "full@2026-11-29", "run-9", "complete", at))
    assert journal.attempts("orders", "full@2026-11-22") == tries


def test_nobody_else_may_read_it(journal: Journal) -> None:
    begin(journal)
    for path in journal.path.parent.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    assert journal.path.parent.stat().st_mode & 0o077 == 0


def test_it_is_in_wal_mode_and_syncs_every_commit(journal: Journal) -> None:
    begin(journal)
    connection = journal._book._connection()
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_a_failing_step_undoes_nothing_half(journal: Journal) -> None:
    run_id = begin(journal)
    before = journal.run(run_id)
    steps.arm("fail", 1, "journal.move")
    try:
        with pytest.raises(InjectedFault):
            journal.move(run_id, RunEvent.PREPARE)
    finally:
        steps.disarm()
    assert journal.run(run_id) == before


def _begin_many(path: Path, count: int) -> None:
    journal = Journal(path, now=lambda: datetime.now(UTC))
    for _ in range(count):
        run = journal.begin_run(database="orders", kind=RunKind.BACKUP, type="full")
        journal.move(run.id, RunEvent.REFUSE)


def test_processes_and_threads_write_at_once(tmp_path: Path) -> None:
    """The first touch is at once too: creating the file must not race."""
    path = tmp_path / "journal.db"
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_begin_many, args=(path, 10)) for _ in range(3)]
    threads = [threading.Thread(target=_begin_many, args=(path, 10)) for _ in range(3)]
    for process in processes:
        process.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    journal = Journal(path, now=lambda: datetime.now(UTC))
    assert len(journal.runs()) == 60
    assert {run.state for run in journal.runs()} <= FINAL_STATES


def test_a_forked_child_opens_its_own_connection(journal: Journal) -> None:
    begin(journal)
    fork = multiprocessing.get_context("fork").Process(target=begin, args=(journal, "other"))
    fork.start()
    fork.join()
    assert fork.exitcode == 0
    begin(journal)
    assert len(journal.runs()) == 3


def test_locked_for_long_is_busy(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "BUSY_SECONDS_MAX", 0.0)
    run_id = begin(journal)
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy) as caught:
        journal.note(run_id, "hello")
    other.close()
    assert len(caught.value.lines()) == 3
    journal.note(run_id, "hello again")


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is no journal at all" * 200)
    with pytest.raises(DamageFound, match=str(path)):
        Journal(path, now=Ticking()).runs()


def test_a_journal_of_a_newer_backupd_is_left_alone(journal: Journal) -> None:
    begin(journal)
    journal.close()
    with sqlite3.connect(journal.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(NotHealthy, match="newer backupd"):
        journal.runs()


def test_a_place_that_is_no_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(NotHealthy, match=r"Not a directory|File exists"):
        Journal(tmp_path / "state" / "journal.db", now=Ticking()).runs()


def _write_much(journal: Journal, run_id: str) -> None:
    for _ in range(200):
        journal.note(run_id, "x" * 4000)


def test_a_full_disk_is_told_and_the_journal_works_again_afterwards(journal: Journal) -> None:
    run_id = begin(journal)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 8192, old[1]))
    try:
        with pytest.raises(NotHealthy) as caught:
            _write_much(journal, run_id)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(caught.value.lines()) == 3
    journal.move(run_id, RunEvent.ABORT)
    assert journal.run(run_id).state is RunState.ABORTED
