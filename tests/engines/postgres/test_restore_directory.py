"""Restores of a real cluster into a scratch directory: whole, to a moment, to an LSN, and what is refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.closed_logs import CopyLog
from backupd.engines.postgres.cluster import TABLE, PgOptions
from backupd.engines.postgres.connect import connect
from backupd.engines.postgres.control_file import CONTROL_PATH, ClusterState, read_control
from backupd.engines.postgres.directory_target import DirectoryTarget
from backupd.engines.postgres.facts import read_facts
from backupd.engines.postgres.prepare import close_log
from backupd.engines.postgres.staged_target import RestoreChoices
from backupd.engines.postgres.tablespace_log import refuse_new_tablespaces
from backupd.engines.postgres.targets import choose_target
from backupd.engines.postgres.volume_table import VolumeTable, decode, encode
from backupd.errors import BackupdError, DamageFound, NotFound, NotHealthy, Refused
from backupd.model.position import Position
from tests.engines.postgres.taken import Taken, copy_of, fill, fill_log, more_log, restore, started, take
from tests.pg_pairs import a_pair, all_versions, server_of

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def story() -> Iterator[tuple[PgPair, Taken, dict[str, object]]]:
    """A pair, a backup of it, and numbered rows with the moment and the LSN after each."""
    with a_pair(segment_mib=1) as pair:
        pair.active.psql("CREATE TABLE told (n int, at timestamptz DEFAULT clock_timestamp())")
        pair.active.psql("INSERT INTO told VALUES (0)")
        taken = take(pair)
        marks: dict[str, object] = {}
        for number in range(1, 6):
            pair.active.psql(f"INSERT INTO told VALUES ({number})")
            with server_of(pair, "active") as server:
                marks[f"at{number}"] = server.value("SELECT clock_timestamp()")
                marks[f"lsn{number}"] = int(server.value("SELECT (pg_current_wal_lsn() - '0/0')::bigint"))
            if number == 3:
                more_log(pair, taken)
        before_commit = "BEGIN; INSERT INTO told VALUES (6); SELECT pg_current_wal_insert_lsn() - '0/0'; COMMIT"
        marks["commit"] = int(pair.active.psql(before_commit))
        more_log(pair, taken)
        yield pair, taken, marks


def target_in(pair: PgPair, directory: Path, **choices: object) -> DirectoryTarget:
    found = choose_target(
        str(directory),
        database="bank",
        active=copy_of(pair.active),
        passive=copy_of(pair.passive),
        choices=RestoreChoices(
            PgOptions(bin_directory=pair.a.bin_directory),
            state_dir=directory.parent,
            **choices,  # type: ignore[arg-type]
        ),
    )
    assert isinstance(found, DirectoryTarget)
    return found


@pytest.fixture
def scratch(story: tuple[PgPair, Taken, dict[str, object]], request: pytest.FixtureRequest) -> Path:
    """A place that the servers' user may get to."""
    return story[0].directory / f"scratch-{abs(hash(request.node.name)) % 10**6}"


def rows(directory: Path, pair: PgPair) -> list[int]:
    with started(directory, pair.a.bin_directory) as conninfo, connect(conninfo) as server:
        assert server.value("SELECT pg_is_in_recovery()") is False
        return [row["n"] for row in server.rows("SELECT n FROM public.told ORDER BY n")]


def test_a_restore_has_everything_and_reaches_nobody(
    story: tuple[PgPair, Taken, dict[str, object]], scratch: Path
) -> None:
    pair, taken, _ = story
    target = target_in(pair, scratch)
    assert not target.facts().exists
    restore(target, taken)
    assert rows(scratch, pair) == [0, 1, 2, 3, 4, 5, 6]
    reached = target.reached()
    assert reached is not None
    assert reached.history == "2"
    assert reached.offset <= taken.end.offset
    control = read_control(scratch / CONTROL_PATH)
    assert control.state is ClusterState.SHUTDOWNED
    assert str(control.system_identifier) == taken.facts.system_identifier
    conf = (scratch / "postgresql.conf").read_text()
    assert "archive_mode = off" in conf
    assert "primary_conninfo" not in conf
    for gone in (".backupd-restore", "backup_label", "recovery.signal", "standby.signal", "tablespace_map"):
        assert not os.path.lexists(scratch / gone), gone
    assert not (scratch / "postgresql.auto.conf").exists()


def test_nothing_of_it_is_open_to_the_world(story: tuple[PgPair, Taken, dict[str, object]], scratch: Path) -> None:
    pair, taken, _ = story
    restore(target_in(pair, scratch), taken)
    for top, directories, files in os.walk(scratch):
        for name in (*directories, *files):
            found = os.lstat(os.path.join(top, name))
            if not stat.S_ISLNK(found.st_mode):
                assert not found.st_mode & 0o077, os.path.join(top, name)
            assert found.st_uid == pair.a.person.uid
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700


@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_restore_to_a_moment_has_just_what_was_committed_by_then(
    story: tuple[PgPair, Taken, dict[str, object]], scratch: Path, number: int
) -> None:
    pair, taken, marks = story
    moment = marks[f"at{number}"]
    assert isinstance(moment, datetime)
    restore(target_in(pair, scratch), taken, at=moment)
    assert rows(scratch, pair) == list(range(number + 1))


@pytest.mark.parametrize("number", [2, 5])
def test_a_restore_to_an_lsn_has_what_was_written_before_it(
    story: tuple[PgPair, Taken, dict[str, object]], scratch: Path, number: int
) -> None:
    pair, taken, marks = story
    lsn = marks[f"lsn{number}"]
    assert isinstance(lsn, int)
    restore(target_in(pair, scratch), taken, until=Position("1", lsn))
    assert rows(scratch, pair) == list(range(number + 1))


def test_the_record_that_begins_at_the_wished_lsn_is_not_replayed(
    story: tuple[PgPair, Taken, dict[str, object]], scratch: Path
) -> None:
    pair, taken, marks = story
    lsn = marks["commit"]
    assert isinstance(lsn, int)
    restore(target_in(pair, scratch), taken, until=Position("1", lsn))
    assert rows(scratch, pair) == [0, 1, 2, 3, 4, 5]


def test_a_moment_after_the_last_commit_is_all_of_the_log(
    story: tuple[PgPair, Taken, dict[str, object]], scratch: Path
) -> None:
    pair, taken, _ = story
    restore(target_in(pair, scratch), taken, at=datetime.now(UTC) + timedelta(hours=1))
    assert rows(scratch, pair) == [0, 1, 2, 3, 4, 5, 6]


def test_a_moment_before_the_backup_is_told_as_such(
    story: tuple[PgPair, Taken, dict[str, object]], scratch: Path
) -> None:
    pair, taken, _ = story
    target = target_in(pair, scratch)
    target.begin("r")
    fill(target, taken)
    fill_log(target, taken)
    with pytest.raises(NotFound, match="before the end of the backup"):
        target.check(Position("1", taken.facts.start_lsn + 40), None)
    target.abandon()
    assert list(scratch.iterdir()) == []


def test_a_segment_that_is_missing_is_named(story: tuple[PgPair, Taken, dict[str, object]], scratch: Path) -> None:
    pair, taken, _ = story
    target = target_in(pair, scratch)
    target.begin("r")
    fill(target, taken)
    fill_log(target, taken, leave_out=(len(taken.logs) - 2,))
    with pytest.raises(DamageFound) as caught:
        target.check(None, None)
    assert "is not in the backup" in caught.value.because
    target.abandon()


def test_a_segment_with_broken_records_does_not_pass_for_the_end(
    story: tuple[PgPair, Taken, dict[str, object]], scratch: Path
) -> None:
    pair, taken, _ = story
    target = target_in(pair, scratch)
    target.begin("r")
    fill(target, taken)
    fill_log(target, taken)
    # The last but one after the stop: recovery takes a broken record for the end of the log.
    log, data = taken.logs[-2]
    place = target.log_path(log)
    assert place is not None
    place.write_bytes(data[:40] + bytes(len(data) - 40))
    fill_log_only_last(target, taken)
    with pytest.raises(DamageFound, match=r"breaks off|missing or damaged"):
        target.check(None, None)
    target.abandon()


def fill_log_only_last(target: DirectoryTarget, taken: Taken) -> None:
    log, _ = taken.logs[-1]
    place = target.log_path(log)
    assert place is not None
    target.apply_log(place, until=None, at=None)


def test_a_flipped_byte_in_a_fetched_segment_is_found(
    story: tuple[PgPair, Taken, dict[str, object]], scratch: Path
) -> None:
    pair, taken, _ = story
    target = target_in(pair, scratch)
    target.begin("r")
    fill(target, taken)
    log, data = taken.logs[0]
    place = target.log_path(log)
    assert place is not None
    place.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    found_digest = target.read_log(place).digest
    assert found_digest != log.digest  # the run compares it with the record's
    place.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(DamageFound):
        target.read_log(place)
    target.abandon()


def with_header(taken: Taken, **changes: object) -> Taken:
    table = decode(taken.files[TABLE])
    changed = VolumeTable(replace(table.header, **changes), table.entries, table.page_count)  # type: ignore[arg-type]
    return Taken({**taken.files, TABLE: encode(changed)}, changed.header, list(taken.logs))


def test_a_backup_without_its_label_is_never_started(
    story: tuple[PgPair, Taken, dict[str, object]], scratch: Path
) -> None:
    pair, taken, _ = story
    target = target_in(pair, scratch)
    target.begin("r")
    without = with_header(taken, backup_label="")
    fill(target, without)
    fill_log(target, without)
    with pytest.raises(DamageFound, match="no backup_label"):
        target.check(None, None)
    assert not (scratch / ".backupd-restore" / "recovery.log").exists()
    target.abandon()


def test_another_clusters_control_file_is_noticed(
    story: tuple[PgPair, Taken, dict[str, object]], scratch: Path
) -> None:
    pair, taken, _ = story
    target = target_in(pair, scratch)
    target.begin("r")
    fill(target, taken)
    fill_log(target, taken)
    other = scratch / ".backupd-restore" / "cluster.control"
    other.write_bytes(b"\0" * 8 + other.read_bytes()[8:])
    with pytest.raises(DamageFound, match="another cluster"):
        target.check(None, None)
    target.abandon()


def test_a_directory_that_is_not_empty_is_refused(
    story: tuple[PgPair, Taken, dict[str, object]], scratch: Path
) -> None:
    pair, _, _ = story
    scratch.mkdir()
    (scratch / "mine").write_text("keep")
    target = target_in(pair, scratch)
    assert target.facts().exists
    with pytest.raises(Refused, match="cannot restore") as caught:
        target.begin("r")
    assert "mine is there already" in caught.value.because
    assert (scratch / "mine").read_text() == "keep"
    file = scratch / "mine"
    with pytest.raises(Refused, match="cannot restore"):
        target_in(pair, file).begin("r")


def test_the_passive_is_never_a_target(story: tuple[PgPair, Taken, dict[str, object]]) -> None:
    pair, _, _ = story
    for target in (pair.passive.name, str(pair.passive.data), str(pair.passive.data / "deep"), str(pair.active.data)):
        with pytest.raises(Refused) as caught:
            target_in(pair, Path(target))
        assert caught.value.exit_status == 4


def test_log_that_makes_a_tablespace_is_refused_for_it_would_write_elsewhere() -> None:
    with a_pair(segment_mib=1) as pair:
        taken = take(pair)
        pair.b.stop()  # on one host, the standby would fall over it
        place = pair.directory / "later"
        pair.a.add_tablespace("later", place)
        pair.a.psql("CREATE TABLE there (n int) TABLESPACE later")
        with server_of(pair, "active") as active:
            size = taken.facts.wal_segment_bytes
            until = close_log(active, "test").position
            facts = read_facts(active)
        log = CopyLog(
            pair.a.data,
            system_identifier=int(facts.system_identifier),
            major=facts.major,
            segment_bytes=size,
            server=None,
        )
        taken.logs += [(closed.log, closed.path.read_bytes()) for closed in log.closed(taken.end, until)]
        pair.a.psql("DROP TABLE there")
        pair.a.psql("DROP TABLESPACE later")
        before = sorted(place.rglob("*"))
        target = target_in(pair, pair.directory / "look")
        target.begin("r")
        fill(target, taken)
        fill_log(target, taken)
        with pytest.raises(Refused, match="outside of the directory"):
            target.check(None, None)
        assert sorted(place.rglob("*")) == before
        target.abandon()
        without = SimpleNamespace(program=lambda _: None)
        with pytest.raises(NotHealthy, match="cannot be looked through"):
            refuse_new_tablespaces(cast(Any, without), pair.a.data, taken.facts, elsewhere=False)
        refuse_new_tablespaces(cast(Any, without), pair.a.data, taken.facts, elsewhere=True)


def test_programs_of_another_version_are_refused(story: tuple[PgPair, Taken, dict[str, object]], scratch: Path) -> None:
    pair, taken, _ = story
    others = [major for major in (15, 16, 18) if major != pair.a.major]
    from tests.pg_pairs import bin_directory

    target = target_in(pair, scratch)
    target._choices = replace(target._choices, options=PgOptions(bin_directory=bin_directory(others[0])))
    target.begin("r")
    with pytest.raises(NotHealthy, match="cannot serve a cluster") as caught:
        fill(target, taken)
    assert not (scratch / ".backupd-restore" / "new").exists() or not list(scratch.rglob("PG_VERSION"))
    assert f"version {others[0]}" in caught.value.because
    target.abandon()


def test_a_restore_that_was_cut_short_goes_on_in_its_stage(
    story: tuple[PgPair, Taken, dict[str, object]], scratch: Path
) -> None:
    pair, taken, marks = story
    first = target_in(pair, scratch)
    first.begin("r1")
    fill(first, taken)
    fill_log(first, taken)
    assert list(first.check(None, None)) == []  # it recovered, and died then
    first.abandon(keep_stage=True)
    second = target_in(pair, scratch)
    moment = marks["at2"]
    assert isinstance(moment, datetime)
    restore(second, taken, at=moment)
    assert rows(scratch, pair) == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("major", all_versions())
def test_every_version_restores(major: int) -> None:
    with a_pair(major) as pair:
        pair.active.pgbench("-i", "-s", "2")
        taken = take(pair)
        pair.active.pgbench("-c", "2", "-t", "200")
        more_log(pair, taken)
        directory = pair.directory / "scratch"
        target = target_in(pair, directory, integrity="full")
        restore(target, taken)
        with started(directory, pair.a.bin_directory) as conninfo, connect(conninfo) as server:
            assert server.value("SELECT count(*) FROM public.pgbench_history") == 400
            assert server.value("SELECT 1 FROM pg_extension WHERE extname = 'amcheck'") is None
        assert target.notes == () or "amcheck" in target.notes[0]


def test_an_error_has_three_lines(story: tuple[PgPair, Taken, dict[str, object]], scratch: Path) -> None:
    pair, _, _ = story
    target = target_in(pair, scratch)
    with pytest.raises(BackupdError) as caught:
        target.activate(came_from="x")
    assert len(caught.value.lines()) == 3


@pytest.mark.slow
def test_log_is_followed_across_a_failover() -> None:
    with a_pair(segment_mib=1) as pair:
        pair.active.psql("CREATE TABLE told (n int); INSERT INTO told VALUES (0)")
        taken = take(pair)
        pair.active.psql("INSERT INTO told VALUES (1)")
        more_log(pair, taken)
        pair.active.psql("INSERT INTO told VALUES (2)")
        pair.wait_caught_up()
        old = pair.active
        new = pair.fail_over()
        new.psql("SELECT pg_create_physical_replication_slot('keep', true)")
        pair.seed(old, new)
        new.psql("INSERT INTO told VALUES (3)")
        more_log(pair, taken, from_active=True)
        assert {log.history for log, _ in taken.logs} == {"1", "2"}
        assert [log.ancestry != "" for log, _ in taken.logs].count(True) == 1
        target = target_in(pair, pair.directory / "scratch")
        restore(target, taken)
        assert rows(pair.directory / "scratch", pair) == [0, 1, 2, 3]
        reached = target.reached()
        assert reached is not None
        assert reached.history == "3"
