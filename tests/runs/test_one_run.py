"""One run at a time over two nodes that share nothing but the pair and the archive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backupd.archive import lease, names, tombs
from backupd.archive.holder import Holder
from backupd.archive.lease import DatabaseLease
from backupd.archive.local import LocalStore
from backupd.archive.verify import Level, verify_database
from backupd.decide.restore_path import RestoreWish
from backupd.errors import ArchiveUnreachable, BackupdError, Busy
from backupd.journal.records import RunKind
from backupd.model.records import BackupType
from backupd.model.states import RunState
from backupd.ports import ClosedLog
from backupd.runs.backup import run_backup
from backupd.runs.one_run import one_run
from backupd.runs.prune import run_prune
from backupd.runs.recover import run_recover
from backupd.runs.restore import run_restore
from backupd.runs.restore_plan import plan_restore
from backupd.runs.status import status_of
from backupd.runs.truncate import run_truncate
from tests.runs.world import World

PERIOD_SECONDS = 60


@pytest.fixture
def other(world: World) -> World:
    """The other node."""
    return World(world.root, clock=world.clock, state="state of the other node")


@contextmanager
def running(world: World, run: str = "full backup of orders") -> Iterator[DatabaseLease]:
    """A run of that node is under way."""
    context = world.context()
    with one_run(context, run):
        context.archive(create=True)
        assert context.run is not None
        assert context.run.lease is not None
        yield context.run.lease


def terms(world: World) -> list[int | None]:
    archive = world.context().archive()
    return [names.term_number_in(each.name) for each in archive.store.list(names.leases_prefix(archive.dbid))]


@contextmanager
def unwritable(monkeypatch: pytest.MonkeyPatch, part: str = "/") -> Iterator[None]:
    """Nothing can be created in the archive; everything can be read."""

    def refuse(self: LocalStore, name: str, pieces: object) -> None:
        if part in name:
            raise ArchiveUnreachable(f"cannot write {name}", because="it is mounted read-only", next_step="mount it")
        real(self, name, pieces)  # type: ignore[arg-type]

    real = LocalStore.create
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "create", refuse)
        yield


def test_every_run_is_refused_while_the_other_node_works(world: World, other: World) -> None:
    run_backup(world.context(), BackupType.FULL)
    plan = plan_restore(world.context(), RestoreWish.latest(), str(world.root / "out"))
    with running(other):
        for act in (
            lambda: run_backup(world.context(), BackupType.INCREMENTAL),
            lambda: run_prune(world.context()),
            lambda: run_truncate(world.context()),
            lambda: run_recover(world.context()),
        ):
            with pytest.raises(Busy, match="full backup of orders is under way") as caught:
                act()
            assert str(os.getpid()) in caught.value.because
    run_restore(world.context(), plan)
    run_backup(world.context(), BackupType.INCREMENTAL)


def test_the_first_backups_of_two_nodes_do_not_both_begin(world: World, other: World) -> None:
    """While there is no archive yet there is no lease: it is taken when the archive comes to be."""
    context = world.context()
    with one_run(context, "full backup of orders"):
        with running(other), pytest.raises(Busy):
            context.archive(create=True)
        context.archive(create=True)
        with pytest.raises(Busy):
            run_backup(other.context(), BackupType.FULL)


def test_a_run_gives_its_lease_back_and_leaves_one_object(world: World, other: World) -> None:
    for node in (world, other, world):
        run_backup(node.context(), BackupType.FULL)
        assert len(terms(world)) == 1
        assert status_of(other.context())["running"] is None


def test_status_says_what_runs_on_the_other_node(world: World, other: World) -> None:
    run_backup(world.context(), BackupType.FULL)
    with running(other, "prune of orders"):
        told = status_of(world.context())["running"]
    assert isinstance(told, dict)
    assert told["run"] == "prune of orders"
    assert told["pid"] == os.getpid()


def test_a_run_that_lost_its_lease_ends_before_it_commits(world: World, other: World) -> None:
    run_backup(world.context(), BackupType.FULL)
    world.writer.commit("one")
    context = world.context()
    taken: list[DatabaseLease] = []

    def take_over() -> None:
        """As if this process had slept here: the other node finds the term unchanged for its period."""
        while not taken:
            lease = DatabaseLease(
                other.context().archive(), run="a run of the other node", seen=world.root / "seen", heartbeat=False
            )
            try:
                lease.acquire()
                taken.append(lease)
            except Busy:
                world.clock.sleep(PERIOD_SECONDS + 1)

    real = context.writer.check_log

    def check_log(closed: ClosedLog) -> None:
        real(closed)
        take_over()

    context.writer.check_log = check_log  # type: ignore[method-assign]
    with pytest.raises(Busy, match="it has lost its lease") as caught:
        run_backup(context, BackupType.INCREMENTAL)
    assert taken
    assert caught.value.exit_status == 9
    assert "a run of the other node" in caught.value.because
    del context.writer.check_log
    taken[0].check()
    taken[0].release()
    (last, *_) = context.journal.runs("orders", RunKind.BACKUP)
    assert last.state is RunState.ABORTED
    assert run_backup(other.context(), BackupType.INCREMENTAL).state is RunState.COMPLETE
    assert verify_database(world.context().archive(), Level.DATA).sound


@pytest.mark.parametrize("where", ["archive.tombs", "archive.prove", "archive.commit"])
def test_a_process_that_slept_longer_than_its_lease_cannot_commit(world: World, other: World, where: str) -> None:
    run_backup(world.context(), BackupType.FULL)
    world.writer.commit("one")
    program = (
        "import sys; from pathlib import Path; from tests.runs.world import World;"
        " from backupd.runs.backup import run_backup; from backupd.model.records import BackupType;"
        " from backupd.errors import BackupdError\n"
        f"try: run_backup(World(Path({str(world.root)!r})).context(), BackupType.INCREMENTAL)\n"
        "except BackupdError as error: print(error.problem); sys.exit(error.exit_status)"
    )
    environment = {**os.environ, "BACKUPD_FAULT": f"stop:1@{where}", "PYTHONPATH": str(Path(__file__).parents[2])}
    sleeper = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(Busy, match="incremental backup of orders is under way") as caught:
            run_backup(other.context(), BackupType.INCREMENTAL)
        assert caught.value.details["pid"] == sleeper.pid
        world.clock.sleep(PERIOD_SECONDS + 1)
        assert any("was left unfinished" in sentence for sentence in run_recover(other.context()))
        outcome = run_backup(other.context(), BackupType.INCREMENTAL)
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
        told, _ = sleeper.communicate(timeout=60)
    # It may first notice that log which it needs is archived by the other node, and gone.
    assert sleeper.returncode in (4, 9) or (where == "archive.tombs" and sleeper.returncode == 7), told
    archive = world.context().archive()
    run_recover(world.context())
    assert outcome.record is not None
    assert [one.record.type for one in archive.list().backups] == [BackupType.FULL, BackupType.INCREMENTAL]
    assert outcome.record.id in archive.list().by_id()
    assert verify_database(archive, Level.DATA).sound


def test_recover_finds_out_whether_the_other_node_is_dead(world: World, other: World) -> None:
    run_backup(world.context(), BackupType.FULL)
    with running(other) as held:
        held._stop.set()  # its heart stands still
        run_recover(world.context(), patient=True)
        with pytest.raises(Busy):
            held.check()


def test_what_a_sleeping_prune_may_still_delete_is_followed_by_a_full(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_backup(world.context(), BackupType.FULL)
    world.writer.commit("one")
    tip = run_backup(world.context(), BackupType.INCREMENTAL).record
    assert tip is not None
    elsewhere = Holder("elsewhere", "another boot", 12, 34)
    theirs = world.context().archive()
    with monkeypatch.context() as patch:
        for room in (lease, tombs):
            patch.setattr(room, "this_process", lambda: elsewhere)
        theirs.lease = DatabaseLease(theirs, run="prune of orders", heartbeat=False)
        theirs.lease.acquire()
        patch.setattr("backupd.archive.removal.finish_deletion", lambda *_, **__: None)  # there it falls asleep
        theirs.delete_backup(tip.id, reason="test")
    with pytest.raises(Busy):
        run_backup(world.context(), BackupType.INCREMENTAL)
    world.clock.sleep(PERIOD_SECONDS + 1)
    world.writer.commit("two")
    outcome = run_backup(world.context(), BackupType.INCREMENTAL)
    assert outcome.plan.type is BackupType.FULL
    assert "had begun to delete it" in outcome.notes[1]
    world.writer.commit("three")
    assert run_backup(world.context(), BackupType.INCREMENTAL).plan.type is BackupType.INCREMENTAL


def test_an_archive_that_cannot_be_written_is_restored_from(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_backup(world.context(), BackupType.FULL)
    with unwritable(monkeypatch):
        context = world.context()
        run_restore(context, plan_restore(context, RestoreWish.latest(), str(world.root / "out")))
        assert run_recover(world.context()) == ()
        for act in (
            lambda: run_backup(world.context(), BackupType.FULL),
            lambda: run_prune(world.context()),
        ):
            with pytest.raises(ArchiveUnreachable, match="cannot write"):
                act()
    assert (world.root / "out" / "app.db").read_bytes() == world.writer.content("a")
    run_backup(world.context(), BackupType.FULL)


def test_an_archive_that_is_away_holds_up_no_recovery(world: World) -> None:
    run_backup(world.context(), BackupType.FULL)
    away = world.backups.rename(world.root / "away")
    assert run_recover(world.context()) == ()
    assert status_of(world.context())["running"] is None
    with pytest.raises(ArchiveUnreachable):
        run_backup(world.context(), BackupType.INCREMENTAL)
    away.rename(world.backups)
    assert run_backup(world.context(), BackupType.INCREMENTAL).state is RunState.COMPLETE


def test_a_lease_that_cannot_be_given_back_holds_up_nobody_here(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_backup(world.context(), BackupType.FULL)
    context = world.context()
    with one_run(context, "a run"):
        held = context.run
        assert held is not None
        monkeypatch.setattr(held.lease, "_create", _fails)
    monkeypatch.undo()
    assert run_backup(world.context(), BackupType.FULL).state is RunState.COMPLETE


def _fails(term: object) -> bool:
    raise ArchiveUnreachable("cannot write", because="the network is down", next_step="look")


def test_an_error_of_the_run_is_not_hidden_by_the_lease(world: World) -> None:
    context = world.context()
    with pytest.raises(BackupdError, match="the run's own"), one_run(context, "a run"):
        raise Busy("the run's own", because="a test", next_step="none")
    assert context.run is None
