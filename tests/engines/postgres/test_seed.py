"""A real standby made anew: by pg_basebackup, and from a backup plus streaming."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.active_target import ActiveTarget
from backupd.engines.postgres.cluster import PgOptions
from backupd.engines.postgres.must_seed import note_must_seed, read_must_seed
from backupd.engines.postgres.recover_restore import recover_active
from backupd.engines.postgres.seed import seed_by_basebackup
from backupd.engines.postgres.seed_target import SeedTarget
from backupd.engines.postgres.staged_target import RestoreChoices
from backupd.errors import InjectedFault, NotHealthy, Refused
from backupd.model.position import Position
from backupd.model.records import Progress
from backupd.steps import arm, disarm
from tests.engines.postgres.taken import build, copy_of, fill, more_log, restore, take
from tests.pg_pairs import a_pair, all_versions

pytestmark = pytest.mark.real


@pytest.fixture
def pair() -> Iterator[PgPair]:
    with a_pair(segment_mib=1) as pair:
        pair.active.psql("CREATE TABLE told (n int); INSERT INTO told VALUES (1)")
        yield pair


def choices(pair: PgPair, **changes: object) -> RestoreChoices:
    state = pair.directory / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    options = PgOptions(bin_directory=pair.a.bin_directory, server_seconds_max=30.0)
    return RestoreChoices(options, state, **changes)  # type: ignore[arg-type]


def rows(pair: PgPair, server: str = "passive") -> str:
    return str(getattr(pair, server).psql("SELECT string_agg(n::text, ',' ORDER BY n) FROM told"))


def streams(pair: PgPair) -> None:
    pair.active.psql("INSERT INTO told VALUES (100)")
    pair.wait_caught_up()
    assert rows(pair).endswith("100")


def test_a_basebackup_makes_the_standby_anew(pair: PgPair) -> None:
    note_must_seed(choices(pair).state_dir, {"reason": "a test"})
    (pair.b.data / "only_here.conf").write_text("# mine\n")
    told: list[Progress] = []
    seed_by_basebackup(copy_of(pair.a), copy_of(pair.b), choices(pair, report=told.append))
    streams(pair)
    assert (pair.b.data / "standby.signal").exists()
    assert (pair.b.data / "only_here.conf").exists()
    assert not (pair.b.data / ".backupd-restore").exists()
    assert read_must_seed(choices(pair).state_dir) is None
    assert pair.a.psql("SELECT active FROM pg_replication_slots WHERE slot_name = 'node_b'") == "t"
    for server in (pair.a, pair.b):
        assert server.psql("SELECT restart_lsn IS NOT NULL FROM pg_replication_slots WHERE slot_name = 'backupd'")
    assert stat.S_IMODE(pair.b.data.stat().st_mode) == 0o700


def test_a_standby_that_is_gone_is_made_anew(pair: PgPair) -> None:
    pair.b.stop("immediate")
    shutil.rmtree(pair.b.data)
    seed_by_basebackup(copy_of(pair.a), copy_of(pair.b), choices(pair))
    streams(pair)


def test_the_old_primary_becomes_the_standby(pair: PgPair) -> None:
    pair.a.psql("INSERT INTO told VALUES (2)")
    pair.wait_caught_up()
    pair.a.kill()
    pair.b.promote()
    pair.b.psql("INSERT INTO told VALUES (3)")
    pair.a.start()  # it does not know better
    with pytest.raises(Refused) as caught:
        seed_by_basebackup(copy_of(pair.b), copy_of(pair.a), choices(pair))
    assert "runs as a primary" in caught.value.because
    pair.a.stop()
    seed_by_basebackup(copy_of(pair.b), copy_of(pair.a), choices(pair))
    assert pair.active is pair.b
    streams(pair)


def test_the_active_is_never_seeded(pair: PgPair) -> None:
    with pytest.raises(Refused):
        seed_by_basebackup(copy_of(pair.b), copy_of(pair.a), choices(pair))
    with pytest.raises(Refused):
        SeedTarget(copy_of(pair.a), copy_of(pair.a), choices(pair)).begin("r")
    assert pair.a.pid is not None


def test_a_copy_that_fails_leaves_the_standby_as_it_was(pair: PgPair) -> None:
    # The slots are taken by the first seed already: make pg_basebackup fail for want of a sender.
    pair.a.set(max_wal_senders="1")
    pair.a.restart()
    pair.wait_streaming()
    before = sorted(pair.b.data.iterdir())
    with pytest.raises(NotHealthy, match="not seeded") as caught:
        seed_by_basebackup(copy_of(pair.a), copy_of(pair.b), choices(pair))
    assert "max_wal_senders" in caught.value.because
    assert pair.b.pid is not None
    assert {path.name for path in before} <= {path.name for path in pair.b.data.iterdir()} | {"postmaster.pid"}
    pair.wait_streaming()


def test_from_a_backup_only_the_rest_is_streamed(pair: PgPair) -> None:
    taken = take(pair)
    pair.active.psql("INSERT INTO told VALUES (2)")
    more_log(pair, taken)
    pair.active.psql("INSERT INTO told VALUES (3)")
    pair.b.stop("immediate")
    shutil.rmtree(pair.b.data / "base")
    target = SeedTarget(copy_of(pair.a), copy_of(pair.b), choices(pair))
    restore(target, taken)
    assert target.reached() is None
    pair.wait_caught_up()
    assert rows(pair) == "1,2,3"
    streams(pair)


def test_after_a_restore_the_standby_follows_into_the_new_timeline(pair: PgPair) -> None:
    taken = take(pair)
    pair.active.psql("INSERT INTO told VALUES (2)")
    lsn = int(pair.active.psql("SELECT (pg_current_wal_lsn() - '0/0')::bigint"))
    pair.active.psql("INSERT INTO told VALUES (3)")
    end = more_log(pair, taken)
    pair.active.psql("INSERT INTO told VALUES (4)")
    more_log(pair, taken)
    active = ActiveTarget(copy_of(pair.a), copy_of(pair.b), choices(pair))
    restore(active, taken, until=Position(end.history, lsn))
    assert rows(pair, "a") == "1,2"
    assert read_must_seed(choices(pair).state_dir) is not None
    target = SeedTarget(copy_of(pair.a), copy_of(pair.b), choices(pair))
    restore(target, taken)
    assert read_must_seed(choices(pair).state_dir) is None
    pair.wait_caught_up()
    assert rows(pair) == "1,2"
    streams(pair)


@pytest.mark.slow
def test_a_backup_from_another_branch_is_refused(pair: PgPair) -> None:
    old = take(pair)
    pair.active.psql("INSERT INTO told VALUES (2)")
    newer = take(pair)
    restore(ActiveTarget(copy_of(pair.a), copy_of(pair.b), choices(pair)), old)
    target = SeedTarget(copy_of(pair.a), copy_of(pair.b), choices(pair))
    target.begin("r")
    with pytest.raises(Refused, match="cannot be seeded from this backup"):
        fill(target, newer)
    target.abandon()
    seed_by_basebackup(copy_of(pair.a), copy_of(pair.b), choices(pair))
    streams(pair)


def test_log_on_a_filesystem_of_its_own_stays_there(pair: PgPair) -> None:
    pair.b.stop()
    elsewhere = pair.directory / "b-wal"
    os.rename(pair.b.data / "pg_wal", elsewhere)
    (pair.b.data / "pg_wal").symlink_to(elsewhere)
    pair.b.start()
    seed_by_basebackup(copy_of(pair.a), copy_of(pair.b), choices(pair))
    assert os.readlink(pair.b.data / "pg_wal") == str(elsewhere)
    assert not (elsewhere / ".backupd-restore").exists()
    streams(pair)


@pytest.mark.slow
@pytest.mark.parametrize("major", all_versions())
def test_every_version_is_seeded_both_ways(major: int) -> None:
    with a_pair(major) as pair:
        pair.active.psql("CREATE TABLE told (n int); INSERT INTO told VALUES (1)")
        taken = take(pair)
        seed_by_basebackup(copy_of(pair.a), copy_of(pair.b), choices(pair))
        streams(pair)
        more_log(pair, taken)
        restore(SeedTarget(copy_of(pair.a), copy_of(pair.b), choices(pair)), taken)
        streams(pair)


@pytest.mark.slow
def test_a_crash_at_every_step_of_a_seeds_swap_is_recovered() -> None:
    with a_pair(segment_mib=1) as pair:
        pair.active.psql("CREATE TABLE told (n int); INSERT INTO told VALUES (1)")
        taken = take(pair)
        number, finished = 0, False
        while not finished:
            number += 4
            target = SeedTarget(copy_of(pair.a), copy_of(pair.b), choices(pair))
            build(target, taken, run=f"r{number}")
            arm("fail", number, "pg.swap")
            try:
                target.activate(came_from="x")
                target.finish()
                finished = True
            except InjectedFault:
                pass
            finally:
                disarm()
            recover_active(pair.b.data, choices(pair))
            assert not (pair.b.data / ".backupd-restore").exists()
            assert pair.b.pid is not None
            pair.wait_streaming()
        assert number > 20


def test_nothing_is_left_open_to_the_world(pair: PgPair) -> None:
    taken = take(pair)
    restore(SeedTarget(copy_of(pair.a), copy_of(pair.b), choices(pair)), taken)
    for top, directories, files in os.walk(pair.b.data):
        for name in (*directories, *files):
            path = Path(top) / name
            if not path.is_symlink():
                assert not path.lstat().st_mode & 0o007, path
