"""What real servers say of themselves, in every version and in every condition that a run must know."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from backupd.demo.postgres_server import PgServer, free_port
from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.cluster import PgCopy, PgOptions
from backupd.engines.postgres.connect import connect
from backupd.engines.postgres.data_directory import check_data_directory
from backupd.engines.postgres.facts import ServerFacts, read_facts
from backupd.engines.postgres.fitness import Fitness, judge_passive
from backupd.engines.postgres.look import STATUS_SECONDS, read_copies
from backupd.engines.postgres.marks import NO_MARKS
from backupd.engines.postgres.roles import judge_pair
from backupd.engines.postgres.status import pair_status
from backupd.errors import BackupdError, ConfigInvalid, NotHealthy, Refused
from backupd.model.pair import CopyState
from backupd.model.position import Position
from tests.pg_pairs import PairFactory, all_versions, server_of

pytestmark = pytest.mark.real
OPTIONS = PgOptions()


def copies_of(pair: PgPair) -> tuple[PgCopy, PgCopy]:
    a, b = (PgCopy(server.name, server.conninfo, server.data) for server in pair.servers)
    return a, b


def facts_of(server: PgServer) -> ServerFacts:
    with connect(server.conninfo, copy=server.name) as connected:
        return read_facts(connected)


def fitness_of(pair: PgPair) -> Fitness:
    return judge_passive(facts_of(pair.active), facts_of(pair.passive), OPTIONS)


def codes(pair: PgPair) -> list[str]:
    return [reason.code for reason in fitness_of(pair).reasons]


@pytest.mark.slow
@pytest.mark.parametrize("major", all_versions())
def test_roles_and_history_before_and_after_a_failover(make_pair: PairFactory, major: int) -> None:
    pair = make_pair(major)
    pair.add_tablespace("elsewhere")
    seen = read_copies(copies_of(pair))
    before = judge_pair("shop", seen)
    active, passive = before.need_both()
    assert (before.active, before.passive, before.history, before.ancestry) == ("a", "b", "1", ())
    assert (active.major, passive.major) == (major, major)
    assert active.system_identifier == passive.system_identifier
    assert (active.data_checksums, active.full_page_writes, active.block_bytes) == (True, True, 8192)
    assert passive.receiver is not None
    assert passive.receiver.slot == "node_b"
    assert [space.name for space in active.tablespaces] == ["elsewhere"]
    assert active.restore_settings["max_connections"] == "50"
    fitness = judge_passive(active, passive, OPTIONS)
    assert (fitness.fit, fitness.lag_bytes, fitness.lag_seconds) == (True, 0, 0.0)

    pair.a.kill()  # what a dead active leaves: it comes back as a second primary
    pair.b.promote()
    pair.a.start()
    with pytest.raises(Refused, match="two active copies") as refused:
        judge_pair("shop", read_copies(copies_of(pair)))
    assert "make it a standby of b" in refused.value.next_step
    pair.a.follows = pair.b
    pair.a.person.write(pair.a.data / "standby.signal", "")
    pair.seed(pair.a, pair.b)
    after = judge_pair("shop", read_copies(copies_of(pair)))
    assert (after.active, after.passive, after.history) == ("b", "a", "2")
    assert [ended.history for ended in after.ancestry] == ["1"]
    passive = after.need_both()[1]
    assert passive.timeline == 2


def test_a_standby_tells_the_timeline_that_it_follows_without_a_restart(make_pair: PairFactory) -> None:
    pair = make_pair()
    pair.a.kill()
    pair.b.promote()
    assert facts_of(pair.b).timeline == 2  # before any checkpoint on it: the control file still says 1
    text = facts_of(pair.b).history_text
    assert text.startswith("1\t0/")


def test_a_role_of_its_own_needs_pg_monitor(pg_pair: PgPair) -> None:
    conninfo = pg_pair.a.add_password_user("facts_test", "x")
    with connect(conninfo) as server, pytest.raises(ConfigInvalid) as refused:
        read_facts(server)
    assert "pg_monitor" in refused.value.next_step
    pg_pair.a.psql("GRANT pg_monitor TO facts_test")
    with connect(conninfo) as server:
        assert read_facts(server).system_identifier == facts_of(pg_pair.a).system_identifier


def test_a_version_that_nobody_knows_is_refused(pg_pair: PgPair, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, remedy in ((130021, "upgrade the server"), (190000, "upgrade backupd")):
        with server_of(pg_pair, "a") as server:
            monkeypatch.setattr(type(server), "version_number", number)
            with pytest.raises(ConfigInvalid, match=f"is PostgreSQL {number // 10000}") as refused:
                read_facts(server)
        assert refused.value.next_step == remedy


def test_two_clusters_are_no_pair(pg_pair: PgPair, make_pair: PairFactory) -> None:
    other = make_pair()
    seen: dict[str, ServerFacts | BackupdError] = {"a": facts_of(pg_pair.a), "b": facts_of(other.b)}
    with pytest.raises(Refused, match="not one pair"):
        judge_pair("shop", seen)


def test_a_data_directory_is_its_servers_own(pg_pair: PgPair, make_pair: PairFactory) -> None:
    copy_a, copy_b = copies_of(pg_pair)
    facts = facts_of(pg_pair.a)
    assert check_data_directory(copy_a, facts)
    assert check_data_directory(copy_b, facts_of(pg_pair.b))
    with pytest.raises(ConfigInvalid, match="copy a in the policy is not its server's") as swapped:
        check_data_directory(replace(copy_a, data_directory=copy_b.data_directory), facts)
    assert str(copy_a.data_directory) in swapped.value.next_step
    other = make_pair(standby=False)
    with pytest.raises(ConfigInvalid, match="not its server's") as foreign:
        check_data_directory(replace(copy_a, data_directory=other.a.data), facts)
    assert "system identifier" in foreign.value.because
    with pytest.raises(ConfigInvalid, match="not its server's"):
        check_data_directory(replace(copy_a, data_directory=pg_pair.directory), facts)
    nowhere = pg_pair.directory / "nowhere"
    with pytest.raises(ConfigInvalid, match="not its server's"):
        check_data_directory(replace(copy_a, data_directory=nowhere), facts)
    assert not check_data_directory(replace(copy_a, data_directory=nowhere), replace(facts, data_directory="/x/y"))


def test_what_stops_a_run_is_seen_on_a_real_pair(make_pair: PairFactory) -> None:
    pair = make_pair(settings={"synchronous_standby_names": "b"})
    assert codes(pair) == []
    pair.b.psql("SELECT pg_wal_replay_pause()")
    assert codes(pair) == ["paused-by-others"]
    paused = pair_status("shop", copies_of(pair), read_copies(copies_of(pair)), OPTIONS)
    assert paused.passive.state is CopyState.SUSPENDED
    pair.b.psql("SELECT pg_wal_replay_resume()")
    pair.b.set(recovery_min_apply_delay="1h")
    assert codes(pair) == ["delayed-on-purpose"]
    pair.b.set(recovery_min_apply_delay="0")
    pair.a.set(full_page_writes="off")
    assert codes(pair) == ["full-page-writes-off"]
    pair.a.set(full_page_writes="on", synchronous_commit="remote_apply")
    time.sleep(0.2)  # the walsender learns of its own state in a moment
    assert codes(pair) == ["remote-apply"]
    pair.a.set(synchronous_commit="local")
    pair.b.stop()
    assert [reason.code for reason in judge_passive(facts_of(pair.a), None, OPTIONS).reasons] == ["passive-away"]


def test_a_standby_that_lags_is_told_in_bytes_and_seconds(make_pair: PairFactory) -> None:
    pair = make_pair()
    pair.a.psql("CREATE TABLE before ()")  # a standby knows a time only of what it has replayed since its start
    pair.wait_caught_up()
    pair.b.psql("SELECT pg_wal_replay_pause()")
    pair.a.pgbench("-i", "-s", "1", "-q")
    time.sleep(0.3)
    active, passive = facts_of(pair.a), facts_of(pair.b)
    small = replace(OPTIONS, lag_bytes_max=1 << 20, lag_seconds_max=0.1)
    fitness = judge_passive(active, passive, small, our_pause=True)
    assert {reason.code for reason in fitness.reasons} == {"lag-bytes", "lag-seconds"}
    assert fitness.lag_bytes is not None
    assert fitness.lag_bytes > 1 << 20
    pair.b.psql("SELECT pg_wal_replay_resume()")
    pair.wait_caught_up()
    assert fitness_of(pair).lag_bytes == 0


def test_a_stream_that_is_cut_is_seen(make_pair: PairFactory) -> None:
    pair = make_pair()
    pair.a.stop()
    passive = facts_of(pair.b)
    assert [reason.code for reason in judge_passive(None, passive, OPTIONS).reasons] == ["active-away"]
    assert passive.receiver is None


def test_a_slot_that_lost_its_log_is_an_alarm(make_pair: PairFactory) -> None:
    pair = make_pair(segment_mib=1, settings={"max_slot_wal_keep_size": "4MB"}, standby=False)
    copies = copies_of(pair)
    pair.a.psql("SELECT pg_create_physical_replication_slot('backupd', true)")

    def status_of_slot() -> tuple[str, int, str]:
        status = pair_status("shop", copies, read_copies(copies), OPTIONS)
        found = next(value for name, value in status.active.facts if name == "slot")
        told = [alarm for alarm in status.alarms if "slot backupd of copy a" in alarm]
        return found, status.active.held_log_bytes, told[0] if told else ""

    assert status_of_slot()[0] == "backupd: reserved"
    for _ in range(8):
        pair.a.psql("SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()")
    state, held, alarm = status_of_slot()
    assert state == "backupd: unreserved"
    assert held > 4 << 20
    assert "about to lose" in alarm
    pair.a.psql("CHECKPOINT")
    state, held, alarm = status_of_slot()
    assert state == "backupd: lost"
    assert "has lost log" in alarm


def test_checksums_off_is_told(make_pair: PairFactory) -> None:
    pair = make_pair(checksums=False)
    status = pair_status("shop", copies_of(pair), read_copies(copies_of(pair)), OPTIONS)
    assert any("checksums are off" in alarm for alarm in status.alarms)
    assert dict(status.passive.facts)["checksums"] == "off"


def test_status_answers_at_once_with_a_server_down_or_stuck(make_pair: PairFactory) -> None:
    pair = make_pair()
    copies = copies_of(pair)
    healthy = pair_status("shop", copies, read_copies(copies), OPTIONS)
    assert (healthy.active.state, healthy.passive.state) == (CopyState.HEALTHY, CopyState.HEALTHY)
    assert healthy.history == "1"
    assert healthy.passive.replayed is not None
    assert healthy.passive.replayed >= Position("1", 0)
    pair.a.freeze_process(frozen=True)
    try:
        began = time.monotonic()
        stuck = pair_status("shop", copies, read_copies(copies, seconds_max=STATUS_SECONDS), OPTIONS)
        assert time.monotonic() - began < 1.0
        assert (stuck.active.name, stuck.active.state) == ("a", CopyState.FAILED)
    finally:
        pair.a.freeze_process(frozen=False)
    pair.a.kill()
    began = time.monotonic()
    down = pair_status("shop", copies, read_copies(copies, seconds_max=STATUS_SECONDS), OPTIONS, NO_MARKS)
    assert time.monotonic() - began < 1.0
    assert "refused" in down.active.because
    nobody = (replace(copies[0], conninfo=f"host=127.0.0.1 port={free_port()}"), copies[0])
    both = read_copies(nobody, seconds_max=STATUS_SECONDS)
    assert all(isinstance(answer, NotHealthy) for answer in both.values())
