"""The lease of a database: who may follow whom, what is left in the archive, what is said to whoever finds it held."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.archive import lease as lease_module
from backupd.archive import names
from backupd.archive.database import DatabaseArchive
from backupd.archive.holder import Holder, this_process
from backupd.archive.lease import DatabaseLease
from backupd.archive.local import LocalStore
from backupd.archive.term import Claim, Sighting, Term, claim_on, term_from_json
from backupd.archive.term_objects import newest_term
from backupd.archive.verify import Level, verify_repository
from backupd.errors import ArchiveUnreachable, Busy, Refused
from backupd.model.records import BackupType
from tests.archive_builders import (
    ObedientClock,
    open_archive,
    take_full,
    take_logs,
    write_log,
    write_pages,
)
from tests.fakes_store import FailingStore, MemoryStore

OTHER = Holder("elsewhere", "another boot", 12, 34)


class Elsewhere:
    """Makes leases as another host would."""

    def __init__(self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.monkeypatch = monkeypatch

    def lease(self, run: str = "full backup of orders", holder: Holder = OTHER) -> DatabaseLease:
        """Of another host, held."""
        with self.monkeypatch.context() as patch:
            patch.setattr(lease_module, "this_process", lambda: holder)
            made = DatabaseLease(open_archive(self.store), run=run, heartbeat=False)
            made.acquire()
        return made


@pytest.fixture
def elsewhere(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    return Elsewhere(store, monkeypatch)


def lease_of(archive: DatabaseArchive, seen: Path | None = None, run: str = "prune of orders") -> DatabaseLease:
    return DatabaseLease(archive, run=run, seen=seen, heartbeat=False)


def terms(archive: DatabaseArchive) -> list[int | None]:
    return [names.term_number_in(each.name) for each in archive.store.list(names.leases_prefix(archive.dbid))]


# --- the decision ---

NOW = datetime(2026, 11, 22, tzinfo=UTC)
seconds = st.floats(0, 1e9)
made_terms = st.builds(
    Term,
    number=st.integers(1, 2**63),
    nonce=st.sampled_from(["a", "b"]),
    holder=st.just(OTHER),
    run=st.just("a run"),
    since=st.datetimes(timezones=st.just(UTC)),
    at=st.datetimes(timezones=st.just(UTC)),
    period_seconds=st.floats(1, 1000),
    released=st.booleans(),
    follows=st.just(""),
)


@given(made_terms, seconds, seconds)
def test_only_what_was_watched_for_its_whole_period_is_taken_over(term: Term, first: float, now: float) -> None:
    seen = Sighting(term.number, term.nonce, "boot", first)
    claim = claim_on(term, gone=False, seen=seen, boot_id="boot", monotonic_seconds=now)
    if term.released:
        assert claim is Claim.FREE
    else:
        assert claim is (Claim.EXPIRED if now - first > term.period_seconds else Claim.HELD)


@given(made_terms, made_terms, seconds, st.sampled_from(["boot", "later boot"]))
def test_another_term_or_another_boot_was_not_watched(term: Term, other: Term, now: float, boot: str) -> None:
    term = replace(term, released=False)
    seen = Sighting(other.number, other.nonce, "boot", -1e12)
    watched = seen.is_of(term) and boot == "boot"
    claim = claim_on(term, gone=False, seen=seen, boot_id=boot, monotonic_seconds=now)
    assert claim is (Claim.EXPIRED if watched else Claim.HELD)
    assert claim_on(term, gone=False, seen=None, boot_id=boot, monotonic_seconds=now) is Claim.HELD
    assert claim_on(term, gone=True, seen=None, boot_id=boot, monotonic_seconds=now) is Claim.GONE


@given(made_terms, st.timedeltas(timedelta(days=-1000), timedelta(days=1000)), seconds)
def test_wall_clocks_decide_nothing(term: Term, skew: timedelta, now: float) -> None:
    skewed = replace(term, at=NOW + skew, since=NOW + skew)
    seen = Sighting(term.number, term.nonce, "boot", 0.0)
    answers = {claim_on(one, gone=False, seen=seen, boot_id="boot", monotonic_seconds=now) for one in (term, skewed)}
    assert len(answers) == 1


@given(made_terms)
def test_a_term_is_read_as_it_was_written(term: Term) -> None:
    assert term_from_json(term.to_json()) == term


# --- taking and giving back ---


def test_a_lease_is_free_again_at_once_and_leaves_one_small_object(archive: DatabaseArchive) -> None:
    for number in (2, 4, 6):
        held = lease_of(archive)
        held.acquire()
        held.check()
        assert terms(archive)[-1] == number - 1
        held.release()
        held.release()
        assert terms(archive) == [number]
    assert verify_repository(archive.repository, Level.DATA).sound


def test_a_renewed_lease_leaves_no_more_than_its_newest_term(archive: DatabaseArchive) -> None:
    held = lease_of(archive)
    held.acquire()
    for _ in range(5):
        held.renew()
        assert len(terms(archive)) == 1
    held.check()


def test_the_requests_are_few(store: MemoryStore, clock: ObedientClock) -> None:
    """As the file says: on S3 each of them costs money and some 20 ms."""
    asked: list[str] = []

    def note(verb: str, name: str) -> bool:
        asked.append(verb)
        return False

    archive = open_archive(FailingStore(store, note), clock)

    def of(act: object) -> dict[str, int]:
        asked.clear()
        act()  # type: ignore[operator]
        return {verb: asked.count(verb) for verb in asked if verb != "reply"}

    lease_of(archive).acquire()
    lease_module._held_here.clear()
    held = lease_of(archive)
    assert of(held.acquire) == {"list": 2, "read": 1, "create": 1}
    assert of(held.check) == {"list": 1}
    assert of(held.renew) == {"create": 1, "list": 1, "delete": 2}
    assert of(held.renew) == {"create": 1, "list": 1, "delete": 1}
    assert of(held.release) == {"create": 1, "delete": 1}


def test_whoever_finds_it_held_is_told_by_whom(archive: DatabaseArchive, elsewhere: Elsewhere) -> None:
    elsewhere.lease()
    with pytest.raises(Busy) as caught:
        lease_of(archive).acquire()
    problem, because, next_step = caught.value.lines()
    assert problem == "error: cannot begin: full backup of orders is under way"
    assert "process 12 on elsewhere holds the lease of orders, since 2026-11-22T01:00:00+00:00" in because
    assert "try again in 60 s" in next_step
    assert caught.value.exit_status == 9


def test_a_watcher_remembers_between_runs_and_takes_over_after_the_period(
    archive: DatabaseArchive, clock: ObedientClock, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    other = elsewhere.lease()
    seen = tmp_path / "seen.json"
    for wait in (0, 30, 29):
        clock.sleep(wait)
        with pytest.raises(Busy):
            lease_of(archive, seen).acquire()
    other.renew()
    clock.sleep(60)
    with pytest.raises(Busy):
        lease_of(archive, seen).acquire()
    clock.sleep(60.001)
    mine = lease_of(archive, seen)
    mine.acquire()
    mine.check()
    newest = newest_term(archive.store, archive.dbid)
    assert newest is not None
    assert newest.follows == "it was not renewed in time: full backup of orders"
    with pytest.raises(Busy, match="has lost its lease") as caught:
        other.check()
    assert "prune of orders" in caught.value.because
    other.renew()
    other.release()
    mine.check()


def test_patience_takes_over_from_the_dead_and_ends_when_the_holder_moves(
    archive: DatabaseArchive, clock: ObedientClock, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere.lease()
    told: list[str] = []
    ours = DatabaseLease(archive, run="recovery", heartbeat=False, tell=told.append)
    ours.acquire(patient=True)
    ours.release()
    assert told == ["waiting whether full backup of orders on elsewhere still lives"]
    again = elsewhere.lease()
    slept = ObedientClock.sleep

    def sleep(self: ObedientClock, seconds: float) -> None:
        slept(self, seconds)
        again.renew()

    began = clock.monotonic()
    monkeypatch.setattr(ObedientClock, "sleep", sleep)
    with pytest.raises(Busy) as caught:
        lease_of(archive).acquire(patient=True)
    assert caught.value.next_step == "wait for it"
    assert clock.monotonic() - began < 10


def test_a_dead_process_of_this_host_is_not_waited_for(archive: DatabaseArchive, elsewhere: Elsewhere) -> None:
    us = this_process()
    elsewhere.lease(holder=replace(us, started=us.started + 1))
    lease_of(archive).acquire()


def test_a_host_of_the_same_name_is_another_host(archive: DatabaseArchive, elsewhere: Elsewhere) -> None:
    elsewhere.lease(holder=replace(this_process(), boot_id="another boot", machine="another machine"))
    with pytest.raises(Busy):
        lease_of(archive).acquire()


def test_a_release_that_failed_holds_nobody_up_here(archive: DatabaseArchive, store: MemoryStore) -> None:
    away = {"now": False}
    failing = open_archive(FailingStore(store, lambda verb, name: away["now"]))
    held = lease_of(failing)
    held.acquire()
    away["now"] = True
    with pytest.raises(ArchiveUnreachable):
        held.check()
    held.release()
    lease_of(archive).acquire()


def test_a_lost_reply_is_no_lost_lease(archive: DatabaseArchive, store: MemoryStore) -> None:
    lost = {"now": False}
    held = lease_of(open_archive(FailingStore(store, lambda verb, name: lost["now"] and verb == "reply")))
    held.acquire()
    lost["now"] = True
    with pytest.raises(ArchiveUnreachable):
        held.renew()
    lost["now"] = False
    held.check()
    held.renew()
    held.check()
    held.release()
    assert len(terms(archive)) == 1


def test_a_damaged_term_is_watched_like_any_other(
    archive: DatabaseArchive, store: MemoryStore, clock: ObedientClock, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    elsewhere.lease()
    (name,) = (each.name for each in store.list(names.leases_prefix(archive.dbid)))
    store.objects[name] = store.objects[name][:-2]
    assert [one.object_name for one in verify_repository(archive.repository, Level.MANIFEST).findings] == [name]
    with pytest.raises(Busy, match="another run is under way"):
        lease_of(archive, tmp_path / "seen").acquire()
    clock.sleep(61)
    lease_of(archive, tmp_path / "seen").acquire()


def test_a_sleeper_s_term_below_the_highest_means_nothing(archive: DatabaseArchive, store: MemoryStore) -> None:
    """He had looked, slept, and then created a number that had come and gone."""
    first = lease_of(archive)
    first.acquire()
    sleeper = lease_of(archive)
    old = first._look()
    assert old is not None
    for _ in range(3):
        first.renew()
    assert sleeper._take(old, Claim.EXPIRED) is False
    first.check()
    assert terms(archive) == [4]


def test_a_heartbeat_renews_and_ends(archive: DatabaseArchive) -> None:
    held = DatabaseLease(archive, run="a run", period_seconds=0.03)
    held.acquire()
    beaten = threading.Event()
    renew = held.renew

    def counted() -> None:
        renew()
        beaten.set()

    held.renew = counted  # type: ignore[method-assign]
    assert beaten.wait(30)
    held.release()
    assert held._heart is not None
    assert not held._heart.is_alive()
    assert terms(archive)[-1:] != [1]


def test_a_forked_child_gives_nothing_back(tmp_path: Path) -> None:
    archive = open_archive(LocalStore.prepare(tmp_path / "archive"))
    held = lease_of(archive)
    held.acquire()
    child = os.fork()
    if child == 0:
        held.release()
        os._exit(0)
    os.waitpid(child, 0)
    held.check()


def test_a_killed_process_is_taken_over_from_at_once(tmp_path: Path) -> None:
    archive = open_archive(LocalStore.prepare(tmp_path / "archive"))
    child = os.fork()
    if child == 0:
        lease_of(archive).acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert terms(archive) == [1]
    lease_of(archive).acquire()
    assert terms(archive)[-1] == 2


# --- what a lease decides about intents and tombs ---


def test_an_intent_of_a_lease_that_was_taken_over_is_fenced(
    archive: DatabaseArchive,
    store: MemoryStore,
    clock: ObedientClock,
    elsewhere: Elsewhere,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = open_archive(store, clock)
    theirs.lease = elsewhere.lease()
    monkeypatch.setattr("backupd.archive.begin.this_process", lambda: OTHER)
    asleep = theirs.begin(BackupType.FULL, parent=None)
    monkeypatch.undo()
    assert archive.sweep(holding_lease=True).aborted == [], "nobody knows whether it lives"
    with pytest.raises(Busy):
        lease_of(archive, tmp_path / "seen").acquire()
    clock.sleep(61)
    archive.lease = lease_of(archive, tmp_path / "seen")
    archive.lease.acquire()
    assert archive.sweep(holding_lease=True).aborted == [asleep.label]
    with pytest.raises(Busy, match="lost its lease"):
        theirs.begin(BackupType.FULL, parent=None)
    assert not list(store.list(names.intents_prefix(archive.dbid)))


def test_what_a_sleeping_deletion_may_still_delete_is_not_built_on(
    archive: DatabaseArchive, store: MemoryStore, elsewhere: Elsewhere, clock: ObedientClock, tmp_path: Path
) -> None:
    pages = write_pages(tmp_path / "app.db", 4)
    full = take_full(archive, pages, 0)
    log = write_log(tmp_path, 1)
    tip = take_logs(archive, full, [log])
    theirs = open_archive(store, clock)
    theirs.lease = elsewhere.lease()
    order: dict[str, object] = {
        "label": tip.record.id,
        "reason": "",
        "by": "",
        "logs": [one.name for one in tip.record.logs],
    }
    order |= {"at": clock.now().isoformat(), "holder": OTHER.to_json(), "lease": theirs.lease.nonce}
    tomb = names.tomb_name(archive.dbid, tip.record.id, theirs.lease.mark)
    theirs.sealed.create("tomb", tomb, order)
    lease_module._held_here.clear()
    archive.lease = lease_of(archive)
    with pytest.raises(Busy):
        archive.lease.acquire()
    clock.sleep(61)
    archive.lease.acquire()

    assert archive.sweep(holding_lease=True).sentences == []
    with pytest.raises(Refused, match="cannot be built on"):
        archive.begin(BackupType.INCREMENTAL, parent=tip)
    with pytest.raises(Refused, match="cannot be named"):
        archive.begin(BackupType.INCREMENTAL, parent=full).lend_log(tip.record.logs[0])
    archive.sweep(holding_lease=True)
    beside = take_logs(archive, full, [log], BackupType.DIFFERENTIAL)
    assert beside.record.logs[0].name != tip.record.logs[0].name
    # The sleeper wakes and goes on from where he was: after his last look.
    store.delete(names.record_name(archive.dbid, tip.record.id))
    store.delete(tip.record.logs[0].name)
    archive.sealed.create("bare", names.bare_name(archive.dbid, tip.record.id), {})
    assert archive.sweep(holding_lease=True).orphans == ()
    archive.fetch_log(beside.record.logs[0], tmp_path / "fetched")
    assert verify_repository(archive.repository, Level.DATA).sound
    clock.sleep(timedelta(days=31).total_seconds())
    archive.sweep(holding_lease=True)
    assert not list(store.list(names.tombs_prefix(archive.dbid)))


def test_a_parent_that_was_deleted_since_it_was_chosen_is_refused(archive: DatabaseArchive, tmp_path: Path) -> None:
    full = take_full(archive, write_pages(tmp_path / "app.db", 4), 0)
    archive.delete_backup(full.record.id, reason="test")
    with pytest.raises(Refused, match="cannot be built on"):
        archive.begin(BackupType.INCREMENTAL, parent=full)
