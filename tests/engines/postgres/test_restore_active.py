"""Restores onto a real active copy: its server stops, the files are swapped, and a crash anywhere leaves one whole."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres import live_directory
from backupd.engines.postgres.active_target import ActiveTarget
from backupd.engines.postgres.cluster import PgOptions
from backupd.engines.postgres.cluster_check import Looked
from backupd.engines.postgres.connect import connect
from backupd.engines.postgres.must_seed import read_must_seed
from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.recover_restore import recover_active
from backupd.engines.postgres.recovery import Recovered
from backupd.engines.postgres.server_control import PgControl
from backupd.engines.postgres.staged_target import RestoreChoices
from backupd.engines.postgres.targets import choose_target
from backupd.engines.postgres.wal_names import segment_name
from backupd.errors import BackupdError, InjectedFault, NotHealthy, Refused
from backupd.ports import ProcessUse
from backupd.steps import arm, disarm
from tests.engines.postgres.taken import Taken, build, copy_of, fill, fill_log, more_log, restore, take
from tests.pg_pairs import a_pair

pytestmark = pytest.mark.real


@dataclass
class Scene:
    """A pair with a backup at row 1, and row 2 that only the live cluster has."""

    pair: PgPair
    taken: Taken
    state: Path

    def choices(self, **changes: object) -> RestoreChoices:
        options = PgOptions(bin_directory=self.pair.a.bin_directory, server_seconds_max=30.0)
        given = {"options": options, "state_dir": self.state, **changes}
        return RestoreChoices(**given)  # type: ignore[arg-type]

    def target(self, **changes: object) -> ActiveTarget:
        found = choose_target(
            "active",
            database="bank",
            active=copy_of(self.pair.a),
            passive=copy_of(self.pair.b),
            choices=self.choices(**changes),
        )
        assert isinstance(found, ActiveTarget)
        return found

    def rows(self) -> str:
        return self.pair.a.psql("SELECT string_agg(n::text, ',' ORDER BY n) FROM told")

    @property
    def data(self) -> Path:
        return self.pair.a.data


def make_scene(pair: PgPair) -> Scene:
    state = pair.directory / "state"
    state.mkdir(mode=0o700)
    pair.active.psql("CREATE TABLE told (n int); INSERT INTO told VALUES (1)")
    taken = take(pair)
    pair.active.psql("INSERT INTO told VALUES (2)")
    return Scene(pair, taken, state)


@pytest.fixture(scope="module")
def shared() -> Iterator[Scene]:
    with a_pair(segment_mib=1) as pair:
        yield make_scene(pair)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with a_pair(segment_mib=1) as pair:
        yield make_scene(pair)


def test_a_restore_stops_the_server_swaps_and_starts_it_again(scene: Scene) -> None:
    before = scene.pair.a.pid
    facts = scene.target().facts()
    assert facts.role == "active"
    assert facts.exists
    assert facts.users == ()
    assert facts.position is not None
    target = scene.target()
    restore(target, scene.taken)
    assert scene.pair.a.pid not in {None, before}
    assert scene.rows() == "1"
    scene.pair.a.psql("INSERT INTO told VALUES (3)")
    assert not (scene.data / ".backupd-restore").exists()
    noted = read_must_seed(scene.state)
    assert noted is not None
    assert noted["history"] == "2"
    assert "full-1" in noted["reason"]
    assert scene.pair.a.psql("SELECT timeline_id FROM pg_control_checkpoint()") == "2"


def test_todays_configuration_is_kept_and_the_restored_one_lies_beside(scene: Scene) -> None:
    data = scene.data
    scene.pair.a.set(work_mem="7MB")
    with (data / "pg_hba.conf").open("a") as file:
        file.write("# added today\n")
    (data / "server.key").write_text("secret")
    (data / "conf.d").mkdir()
    (data / "conf.d" / "mine.conf").write_text("# mine\n")
    (data / "old_only.txt").write_text("kept")
    restore(scene.target(), scene.taken)
    assert scene.pair.a.psql("SHOW work_mem") == "7MB"
    assert (data / "pg_hba.conf").read_text().endswith("# added today\n")
    assert "added today" not in (data / "pg_hba.conf.restored").read_text()
    assert (data / "server.key").read_text() == "secret"
    assert (data / "conf.d" / "mine.conf").exists()
    assert (data / "old_only.txt").exists()
    assert not (data / "postgresql.conf.restored").exists()  # it is the same as today's


def test_the_options_of_the_server_survive(scene: Scene) -> None:
    scene.pair.a.stop()
    scene.pair.a.write_node()
    scene.pair.a.program("pg_ctl", "start", "-w", "-s", "-D", scene.data, "-l", scene.pair.a.home / "server.log",
                         "-o", "-c work_mem=9MB -c 'log_line_prefix=it is %p '")  # fmt: skip
    restore(scene.target(), scene.taken)
    assert scene.pair.a.psql("SHOW work_mem") == "9MB"
    assert scene.pair.a.psql("SHOW log_line_prefix") == "it is %p"  # psql strips the blank


def test_pages_that_match_are_found_in_the_live_files(shared: Scene) -> None:
    target = shared.target()
    target.begin("r")
    reused = fill(target, shared.taken, use_live=True)
    assert reused > 0.9 * len(shared.taken.files["cluster.volume"]) / 8192
    target.abandon()
    assert shared.rows() == "1,2"


def test_abandon_leaves_the_live_cluster_as_it_was_and_running(shared: Scene) -> None:
    target = shared.target()
    build(target, shared.taken)
    assert shared.pair.a.pid is None
    target.abandon()
    assert shared.rows() == "1,2"
    assert not (shared.data / ".backupd-restore").exists()
    assert read_must_seed(shared.state) is None


def test_a_standbys_directory_is_refused(shared: Scene) -> None:
    target = ActiveTarget(copy_of(shared.pair.b), None, shared.choices())
    with pytest.raises(Refused, match="cannot restore"):
        target.begin("r")
    assert shared.pair.b.pid is not None


def test_another_cluster_is_refused(shared: Scene) -> None:
    target = shared.target(system_identifier="42")
    with pytest.raises(Refused) as caught:
        target.begin("r")
    assert "the pair is 42" in caught.value.because
    assert shared.pair.a.pid is not None


@pytest.mark.slow
def test_a_server_that_nobody_controls_is_refused(shared: Scene) -> None:
    shared.pair.a.stop()
    alone = subprocess.Popen(
        [shared.pair.a.bin_directory / "postgres", "--single", "-D", str(shared.data), "postgres"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        **Owner.of(shared.data).run_as(),
    )
    try:
        for _ in range(200):
            if shared.target().facts().users:
                break
            time.sleep(0.02)
        (shared.data / "postmaster.pid").unlink()
        assert shared.target().facts().users[0].pid == alone.pid
        with pytest.raises(Refused) as caught:
            shared.target().begin("r")
        assert f"postgres --single -D {shared.data}"[:30] in caught.value.because
        assert str(alone.pid) in caught.value.because
    finally:
        alone.kill()
        alone.wait()
        shared.pair.a.start()


def test_a_server_that_is_just_going_is_waited_for(shared: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    going = [(ProcessUse(4711, "postgres -D x", str(shared.data)),)] * 2
    monkeypatch.setattr(live_directory, "find_strangers", lambda _directory: going.pop() if going else ())
    target = shared.target()
    target.begin("r")
    target.abandon()
    assert not going


def test_a_server_that_somebody_starts_meanwhile_is_not_overrun(scene: Scene) -> None:
    target = scene.target()
    build(target, scene.taken)
    scene.pair.a.start()
    with pytest.raises(Refused, match="cannot restore") as caught:
        target.activate(came_from="x")
    assert "started while" in caught.value.because
    target.abandon()
    assert scene.rows() == "1,2"


def test_a_destroyed_data_directory_is_restored(scene: Scene) -> None:
    scene.pair.a.stop("immediate")
    shutil.rmtree(scene.data)
    target = scene.target()
    assert not target.facts().exists
    restore(target, scene.taken)
    assert scene.rows() == "1"
    conf = (scene.data / "postgresql.auto.conf").read_text()
    assert "primary_conninfo" not in conf
    assert stat.S_IMODE(scene.data.stat().st_mode) == 0o700


@pytest.mark.slow
def test_a_second_restore_takes_a_timeline_that_was_never_used(scene: Scene) -> None:
    restore(scene.target(), scene.taken)
    restore(scene.target(), scene.taken)
    assert scene.rows() == "1"
    assert scene.pair.a.psql("SELECT timeline_id FROM pg_control_checkpoint()") == "3"


def test_log_that_was_archived_is_not_archived_again(scene: Scene) -> None:
    archived = scene.pair.directory / "archived"
    scene.pair.a.person.own(archived)
    scene.pair.a.psql("ALTER SYSTEM SET archive_mode = on")
    scene.pair.a.psql(f"ALTER SYSTEM SET archive_command = 'test ! -e {archived}/%f && cp %p {archived}/%f'")
    restore(scene.target(), scene.taken)
    scene.pair.a.psql("INSERT INTO told VALUES (9)")
    scene.pair.a.psql("SELECT pg_switch_wal()")
    scene.pair.a.psql("CHECKPOINT")
    for _ in range(100):
        names = {path.name for path in archived.iterdir()}
        if any(name.startswith("00000002") and "." not in name for name in names):
            break
        time.sleep(0.1)
    assert "00000002.history" in names
    assert not any(name.startswith("00000001") and ".partial" not in name for name in names), names


@pytest.mark.slow
def test_tablespaces_come_back_and_dropped_ones_go(tmp_path: Path) -> None:
    with a_pair(segment_mib=1) as pair:
        scene = scene_with_tablespace(pair)
        restore(scene.target(), scene.taken)
        assert pair.active.psql("SELECT string_agg(n::text, ',') FROM inside") == "1"
        oid = pair.active.psql("SELECT oid FROM pg_tablespace WHERE spcname = 't1'")
        assert os.readlink(scene.data / "pg_tblspc" / oid) == str(pair.directory / "a-t1")
        assert not (pair.directory / "a-t1" / ".backupd-restore").exists()
        assert len(list((pair.directory / "a-t1").iterdir())) == 1
        assert len(list((pair.directory / "b-t1").iterdir())) == 1  # the passive's was not touched


def scene_with_tablespace(pair: PgPair) -> Scene:
    """The same with a table of one row in a tablespace, and a second row that only the live cluster has."""
    # One host: the standby needs its places elsewhere, so they are made while it is down.
    pair.active.add_tablespace("t1", pair.directory / "a-t1")
    pair.passive.stop("immediate")
    reseed_elsewhere(pair)
    pair.active.psql("CREATE TABLE inside (n int) TABLESPACE t1; INSERT INTO inside VALUES (1)")
    scene = make_scene(pair)
    pair.active.psql("INSERT INTO inside VALUES (2)")
    return scene


def reseed_elsewhere(pair: PgPair) -> None:
    """The standby anew, its tablespace in a directory of its own."""
    primary, standby = pair.a, pair.b
    shutil.rmtree(standby.data)
    standby.person.own(pair.directory / "b-t1")
    standby.program("pg_basebackup", "-h", "127.0.0.1", "-p", primary.port, "-U", "postgres", "-D", standby.data,
                    "-c", "fast", "-X", "stream", "-N",
                    f"--tablespace-mapping={pair.directory / 'a-t1'}={pair.directory / 'b-t1'}")  # fmt: skip
    standby.person.write(standby.data / "standby.signal", "")
    standby.start()
    pair.wait_streaming()


def test_a_tablespace_made_by_log_does_not_wreck_a_live_one(scene: Scene) -> None:
    scene.pair.b.stop()  # on one host, the standby would fall over it
    place = scene.pair.directory / "later"
    scene.pair.a.add_tablespace("later", place)
    scene.pair.a.psql("CREATE TABLE there (n int) TABLESPACE later")
    log = closed_on_active(scene)
    before = sorted(path for path in place.rglob("*"))
    target = scene.target()
    target.begin("r")
    fill(target, scene.taken)
    fill_log(target, log)
    with pytest.raises(Refused, match="makes tablespace"):
        target.check(None, None)
    assert sorted(path for path in place.rglob("*")) == before
    target.abandon()
    assert scene.pair.a.psql("SELECT count(*) FROM there") == "0"


def closed_on_active(scene: Scene) -> Taken:
    """The log after the backup, from the active's own disk."""
    from backupd.engines.postgres.closed_logs import CopyLog
    from backupd.engines.postgres.prepare import close_log
    from tests.pg_pairs import server_of

    with server_of(scene.pair, "active") as server:
        until = close_log(server, "here").position
    log = CopyLog(
        scene.pair.a.data,
        system_identifier=int(scene.taken.facts.system_identifier),
        major=scene.pair.a.major,
        segment_bytes=scene.taken.facts.wal_segment_bytes,
    )
    more = [(closed.log, closed.path.read_bytes()) for closed in log.closed(scene.taken.end, until)]
    return Taken(scene.taken.files, scene.taken.facts, [*scene.taken.logs, *more])


def test_a_pg_wal_on_another_filesystem_stays_there(scene: Scene) -> None:
    scene.pair.a.stop()
    elsewhere = scene.pair.directory / "wal-place"
    os.rename(scene.data / "pg_wal", elsewhere)
    (scene.data / "pg_wal").symlink_to(elsewhere)
    scene.pair.a.start()
    restore(scene.target(), scene.taken)
    assert scene.rows() == "1"
    assert os.readlink(scene.data / "pg_wal") == str(elsewhere)
    assert not (elsewhere / ".backupd-restore").exists()
    assert list(elsewhere.glob("00000002*"))


# --- crashes ------------------------------------------------------------------


def whole(scene: Scene) -> str:
    """What a cluster that starts holds; one that cannot start holds nothing."""
    if scene.pair.a.pid is None:
        scene.pair.a.start()
    return scene.rows()


def half_swapped(data: Path) -> bool:
    return not (data / "global" / "pg_control").exists()


@pytest.mark.slow
def test_a_crash_at_every_step_of_the_swap_leaves_the_old_or_the_new_cluster() -> None:
    with a_pair(segment_mib=1) as pair:
        scene = make_scene(pair)
        pair.b.stop()
        seen: set[str] = set()
        number = 0
        while True:
            number += 1
            target = scene.target()
            build(target, scene.taken, run=f"r{number}")
            arm("fail", number, "pg.")
            try:
                target.activate(came_from="full-1")
                target.finish()
                finished = True
            except InjectedFault:
                finished = False
            finally:
                disarm()
            if not finished:
                if half_swapped(scene.data):
                    with pytest.raises(BackupdError):
                        pair.a.start()  # nobody starts a mixture
                    seen.add("half")
                recover_active(scene.data, scene.choices())
            assert not (scene.data / ".backupd-restore").exists()
            found = whole(scene)
            assert found in {"1", "1,2"}, number
            if not finished and (noted := read_must_seed(scene.state)) is not None:
                assert found == "1", noted
            seen.add(found)
            if finished:
                break
            if found == "1":
                pair.a.psql("INSERT INTO told VALUES (2)")
            (scene.state / "must-seed.json").unlink(missing_ok=True)
        assert seen == {"half", "1", "1,2"}
        assert number > 20


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 3, 8, 15, 25, 33])
def test_sigkill_in_the_swap_is_recovered(scene: Scene, number: int) -> None:
    target = scene.target()
    build(target, scene.taken)
    pid = os.fork()
    if pid == 0:
        try:
            arm("die", number, "pg.swap.")
            target.activate(came_from="full-1")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    recover_active(scene.data, scene.choices())
    assert whole(scene) in {"1", "1,2"}
    assert not (scene.data / ".backupd-restore").exists()
    assert list(recover_active(scene.data, scene.choices())) == []


def test_sigkill_in_recovery_is_cleared_and_the_live_server_runs_again(scene: Scene) -> None:
    target = scene.target()
    target.begin("r")
    fill(target, scene.taken)
    fill_log(target, scene.taken)
    pid = os.fork()
    if pid == 0:
        try:
            from backupd.engines.postgres import staged_target

            def die(*_: object, **__: object) -> object:
                os.kill(os.getpid(), 9)
                raise AssertionError

            staged_target.check_cluster = die  # type: ignore[assignment, attr-defined]
            target.check(None, None)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert (scene.data / ".backupd-restore" / "stage" / "postmaster.pid").exists()  # its server is an orphan
    told = recover_active(scene.data, scene.choices())
    assert len(told) == 2
    assert scene.rows() == "1,2"


def test_a_full_disk_leaves_the_live_cluster_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    target = scene.target()
    build(target, scene.taken)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(scene.data))

    monkeypatch.setattr("backupd.engines.postgres.live_directory.sync_tree", full)
    with pytest.raises(NotHealthy) as caught:
        target.activate(came_from="x")
    assert "No space left" in caught.value.because
    target.abandon()
    assert scene.rows() == "1,2"


def test_log_across_a_restore_is_still_taken(scene: Scene) -> None:
    more_log(scene.pair, scene.taken)
    restore(scene.target(), scene.taken)
    assert scene.rows() == "1,2"


def test_all_log_of_the_new_timeline_stays_for_the_standby(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    look = ActiveTarget._look

    def busy_look(target: ActiveTarget, control: PgControl, found: Recovered) -> Looked:
        with connect(f"host='{found.socket_directory}' port=5432 user=postgres") as server:
            for number in range(3):  # as hint bits do, of which a look at many rows writes whole segments
                server.run("SELECT pg_create_restore_point(%s)", f"busy {number}")
                server.run("SELECT pg_switch_wal()")
                server.run("CHECKPOINT")
        return look(target, control, found)

    monkeypatch.setattr(ActiveTarget, "_look", busy_look)
    target = scene.target()
    restore(target, scene.taken)
    scene.pair.a.psql("CHECKPOINT")
    reached = target.reached()
    assert reached is not None
    assert (scene.data / "pg_wal" / segment_name(2, reached.offset >> 20, 1 << 20)).exists()
