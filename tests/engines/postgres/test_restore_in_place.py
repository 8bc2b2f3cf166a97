"""Restores in place on a real active: its own files become the stage, and a crash anywhere leads to a whole cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.engines.postgres import in_place
from backupd.engines.postgres.active_target import ActiveTarget
from backupd.engines.postgres.cluster import TABLE, VOLUME
from backupd.engines.postgres.recover_restore import recover_active
from backupd.errors import InjectedFault, NotHealthy, Refused
from backupd.ports import ReusesLive
from backupd.steps import arm, disarm
from tests.engines.postgres.taken import fill, fill_log, take
from tests.engines.postgres.test_restore_active import Scene, make_scene, reseed_elsewhere, scene_with_tablespace
from tests.pg_pairs import a_pair

pytestmark = pytest.mark.real


@pytest.fixture
def scene() -> Iterator[Scene]:
    with a_pair(segment_mib=1) as pair:
        yield make_scene(pair)


def begun(scene: Scene, run: str = "r1") -> ActiveTarget:
    target = scene.target()
    target.begin(run)
    target.reuse_live()
    return target


def restore_in_place(scene: Scene, run: str = "r1") -> None:
    target = begun(scene, run)
    fill(target, scene.taken)
    fill_log(target, scene.taken)
    assert list(target.check(None, None)) == []
    target.activate(came_from="full-1")
    target.finish()


def file_of(scene: Scene, relation: str) -> Path:
    return scene.data / scene.pair.a.psql(f"SELECT pg_relation_filepath('{relation}')")


def is_given_up(scene: Scene) -> bool:
    return scene.target().facts().given_up


def test_the_files_that_are_there_are_reused(scene: Scene) -> None:
    assert isinstance(scene.target(), ReusesLive)
    path = file_of(scene, "pg_catalog.pg_type_oid_index")
    before = path.stat().st_ino
    restore_in_place(scene)
    assert scene.rows() == "1"
    assert path.stat().st_ino == before
    scene.pair.a.psql("INSERT INTO told VALUES (3)")
    assert not (scene.data / ".backupd-restore").exists()


def test_nothing_is_given_up_before_the_first_page(scene: Scene) -> None:
    target = begun(scene)
    assert target.reusable_bytes() > 1 << 20
    assert not is_given_up(scene)
    target.abandon()
    assert scene.rows() == "1,2"


def test_a_database_made_since_leaves_nothing(scene: Scene) -> None:
    scene.pair.a.psql("CREATE DATABASE later")
    oid = scene.pair.a.psql("SELECT oid FROM pg_database WHERE datname = 'later'")
    assert (scene.data / "base" / oid).is_dir()
    restore_in_place(scene)
    assert scene.rows() == "1"
    assert not (scene.data / "base" / oid).exists()


def test_what_was_given_up_does_not_start_and_waits_for_a_restore(scene: Scene) -> None:
    target = begun(scene)
    fill(target, scene.taken)
    target.abandon()
    assert is_given_up(scene)
    with pytest.raises(NotHealthy):
        scene.pair.a.start()
    told = recover_active(scene.data, scene.choices())
    assert len(told) == 1
    assert "only a restore ends it" in told[0]
    assert is_given_up(scene)
    restore_without_the_word(scene)
    assert scene.rows() == "1"
    assert not is_given_up(scene)


def restore_without_the_word(scene: Scene) -> None:
    """It goes on with what is there; that nothing else is left to go back to is known already."""
    target = scene.target()
    target.begin("r2")
    assert fill(target, scene.taken, use_live=True) == 0  # all that can be reused is in the stage
    fill_log(target, scene.taken)
    assert list(target.check(None, None)) == []
    target.activate(came_from="full-1")
    target.finish()


def test_links_are_refused_before_anything_is_given_up(scene: Scene) -> None:
    target = scene.target()
    target.begin("r1")
    elsewhere = scene.pair.directory / "elsewhere"
    os.rename(scene.data / "base", elsewhere)
    (scene.data / "base").symlink_to(elsewhere)
    with pytest.raises(Refused, match="cannot be reused"):
        target.reuse_live()
    target.abandon()
    assert scene.rows() == "1,2"


def test_tablespaces_are_reused_too() -> None:
    with a_pair(segment_mib=1) as pair:
        scene = scene_with_tablespace(pair)
        path = file_of(scene, "inside")
        before = path.stat().st_ino
        restore_in_place(scene)
        assert pair.active.psql("SELECT string_agg(n::text, ',') FROM inside") == "1"
        assert path.stat().st_ino == before
        assert len(list((pair.directory / "a-t1").iterdir())) == 1
        assert len(list((pair.directory / "b-t1").iterdir())) == 1


def test_what_can_be_known_is_refused_before_anything_is_given_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.pair.b.stop()
    with monkeypatch.context() as patch:
        patch.setattr(in_place, "free_room_bytes", lambda _: 0)
        patch.setattr(in_place, "_bytes_below", lambda _: 0)
        target = begun(scene)
        with pytest.raises(NotHealthy, match="no room for the restored files"):
            fill(target, scene.taken)
        target.abandon()
        assert scene.rows() == "1,2"
    scene.pair.a.add_tablespace("t2", scene.pair.directory / "a-t2")
    target = begun(scene)
    with pytest.raises(Refused, match="cannot be reused") as told:
        fill(target, scene.taken)
    assert "a-t2 is not in the backup" in told.value.because
    assert not is_given_up(scene)
    target.abandon()
    assert scene.rows() == "1,2"


def test_what_was_given_up_needs_no_room_again_whatever_backup_comes_next(scene: Scene) -> None:
    assert begun(scene).left_bytes() < 1 << 16
    target = begun(scene)
    fill(target, scene.taken)
    target.abandon()
    (scene.data / ".backupd-restore" / TABLE).unlink()  # as of a backup whose table is another one
    assert scene.target().reusable_bytes() == 0
    assert scene.target().left_bytes() > 0.9 * len(scene.taken.files[VOLUME])


def test_a_tablespace_of_an_earlier_try_goes_when_the_next_backup_has_none() -> None:
    with a_pair(segment_mib=1) as pair:
        older = make_scene(pair)
        pair.active.add_tablespace("t1", pair.directory / "a-t1")
        pair.passive.stop("immediate")
        reseed_elsewhere(pair)
        pair.active.psql("CREATE TABLE inside (n int) TABLESPACE t1; INSERT INTO inside VALUES (1)")
        newer = Scene(pair, take(pair), older.state)
        pair.b.stop()
        target = begun(newer)
        fill(target, newer.taken)
        target.abandon()
        assert is_given_up(newer)
        restore_without_the_word(older)
        assert older.rows() == "1"
        assert list((pair.directory / "a-t1").iterdir()) == []
        pair.a.psql(f"CREATE TABLESPACE again LOCATION '{pair.directory / 'a-t1'}'")


# The steps of a restore in place, and how many of each are tried; all of the swap's are in test_restore_active.
STEPS = {
    "pg.restore.journal": 9,
    "pg.restore.room": 9,
    "pg.restore.give_up": 9,
    "pg.restore.stray": 3,
    "pg.pages.": 9,
    "pg.restore.log": 3,
    "pg.restore.label": 9,
    "pg.restore.control": 9,
    "pg.recovery.": 9,
    "pg.server.": 9,
    "pg.swap.": 4,
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_failure_at_every_step_leaves_the_old_cluster_or_one_more_restore_makes_it_whole() -> None:
    with a_pair(segment_mib=1) as pair:
        scene = make_scene(pair)
        pair.b.stop()
        seen: list[str] = []
        for prefix, most in STEPS.items():
            for number in range(1, most + 1):
                found = failed_at(scene, prefix, number)
                if not found:
                    assert number > 1, f"there is no step {prefix}"
                    break
                seen.append(found)
        assert set(seen) == {"given up", "1", "1,2"}
        assert len(seen) > 25


def failed_at(scene: Scene, prefix: str, number: int) -> str:
    """What was found after a restore that failed there, empty when there is no such step; then all is as before."""
    arm("fail", number, prefix)
    try:
        restore_in_place(scene, f"r{number}")
    except InjectedFault:
        failed = True
    else:
        failed = False
    finally:
        disarm()
    given_up = is_given_up(scene)
    if given_up:
        with pytest.raises(NotHealthy):
            scene.pair.a.start()
    recover_active(scene.data, scene.choices())
    assert is_given_up(scene) == given_up
    if given_up:
        restore_in_place(scene, f"again{number}")
    if scene.pair.a.pid is None:
        scene.pair.a.start()
    found = scene.rows()
    assert found == "1" if given_up or not failed else found in {"1", "1,2"}, (prefix, number)
    if found == "1":
        scene.pair.a.psql("INSERT INTO told VALUES (2)")
    (scene.state / "must-seed.json").unlink(missing_ok=True)
    return "" if not failed else "given up" if given_up else found


@pytest.mark.slow
@pytest.mark.parametrize("place", ["2@pg.restore.give_up", "1@pg.restore.label", "1@pg.restore.control"])
def test_sigkill_after_it_was_given_up_is_gone_on_with(scene: Scene, place: str) -> None:
    number, _, prefix = place.partition("@")
    pid = os.fork()
    if pid == 0:
        try:
            arm("die", int(number), prefix)
            restore_in_place(scene)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert is_given_up(scene)
    with pytest.raises(NotHealthy):
        scene.pair.a.start()
    restore_in_place(scene, "r2")
    assert scene.rows() == "1"
