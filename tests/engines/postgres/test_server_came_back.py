"""A supervisor starts the active's server while a restore works there: nothing is swapped or given up under it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backupd.engines.postgres.cluster import CONTROL, TABLE, VOLUME
from backupd.engines.postgres.live_directory import LiveDirectory
from backupd.engines.postgres.recover_restore import recover_active
from backupd.engines.postgres.stage_journal import Phase, StageJournal
from backupd.engines.postgres.swap import Room
from backupd.errors import BackupdError, NotHealthy, Refused
from backupd.steps import arm
from tests.engines.postgres.taken import build, restore
from tests.engines.postgres.test_restore_active import Scene, make_scene
from tests.pg_pairs import a_pair

pytestmark = pytest.mark.real


@pytest.fixture
def scene() -> Iterator[Scene]:
    with a_pair(segment_mib=1) as pair:
        made = make_scene(pair)
        pair.b.stop()
        yield made


def killed(what: Callable[[], object], number: int, prefix: str) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            arm("die", number, prefix)
            what()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)


def is_whole(scene: Scene, rows: str) -> None:
    """Its server runs on one cluster, and does so after a restart."""
    if scene.pair.a.pid is None:
        scene.pair.a.start()
    scene.pair.a.psql("CHECKPOINT")
    assert scene.rows() == rows
    scene.pair.a.stop()
    scene.pair.a.start()
    assert scene.rows() == rows


def test_a_restore_killed_before_its_first_move_is_undone_when_the_server_runs_again(scene: Scene) -> None:
    killed(lambda: restore(scene.target(), scene.taken), 1, "pg.swap.move")
    journal = StageJournal.read(Room(scene.data))
    assert journal is not None
    assert journal.phase is Phase.SWAPPING
    scene.pair.a.start()
    scene.pair.a.psql("INSERT INTO told VALUES (3)")
    before = scene.pair.a.pid
    told = recover_active(scene.data, scene.choices())
    assert "removed" in told[0]
    assert scene.pair.a.pid == before
    is_whole(scene, "1,2,3")
    restore(scene.target(), scene.taken)
    is_whole(scene, "1")


def test_a_restore_killed_after_its_first_move_goes_on(scene: Scene) -> None:
    killed(lambda: restore(scene.target(), scene.taken), 2, "pg.swap.move")
    with pytest.raises(NotHealthy):
        scene.pair.a.start()
    assert "put the restored files in place" in recover_active(scene.data, scene.choices())[0]
    is_whole(scene, "1")


def test_a_swap_that_cannot_begin_starts_the_old_server_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    target = scene.target()
    build(target, scene.taken)
    real = Path.mkdir

    def full(self: Path, *args: object, **more: object) -> None:
        if self.name == "old":
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        real(self, *args, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        with pytest.raises(NotHealthy, match="cannot restore"):
            target.activate(came_from="full-1")
    assert scene.pair.a.pid is not None
    assert not scene.target().facts().given_up
    recover_active(scene.data, scene.choices())
    is_whole(scene, "1,2")


def running_from(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As if a server were there from the n-th time on that somebody looks."""
    looks = iter(range(1, 1000))

    def refuse(self: LiveDirectory) -> None:
        if next(looks) >= number:
            raise Refused(f"cannot restore to {self.main.place}", because="its server was started", next_step="stop it")

    monkeypatch.setattr(LiveDirectory, "refuse_running", refuse)


@pytest.mark.parametrize("number", [1, 2, 3])  # as the stage is whole, before global leaves, and after it did
def test_a_server_that_is_seen_around_the_first_move_keeps_its_files(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    target = scene.target()
    build(target, scene.taken)
    with monkeypatch.context() as patch:
        running_from(patch, number)
        with pytest.raises(Refused, match="its server was started"):
            target.activate(came_from="full-1")
    is_whole(scene, "1,2")
    recover_active(scene.data, scene.choices())
    is_whole(scene, "1,2")


def in_place_up_to_the_pages(scene: Scene) -> Callable[[], object]:
    """A restore in place that has fetched the table and the control file; answers with what gives up."""
    target = scene.target()
    target.begin("r1")
    target.reuse_live()
    for name in (TABLE, CONTROL):
        place = target.stage_file(scene.taken.stored(name))
        assert isinstance(place, Path)
        place.write_bytes(scene.taken.files[name])
        place.chmod(0o600)
    return lambda: target.stage_file(scene.taken.stored(VOLUME))


def test_nothing_is_given_up_under_a_server(scene: Scene) -> None:
    give_up = in_place_up_to_the_pages(scene)
    scene.pair.a.start()
    scene.pair.a.psql("INSERT INTO told VALUES (3)")
    with pytest.raises(Refused, match="its server was started"):
        give_up()
    assert not scene.target().facts().given_up
    is_whole(scene, "1,2,3")


def test_what_was_given_up_is_given_back_when_a_server_is_seen_then(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up = in_place_up_to_the_pages(scene)
    with monkeypatch.context() as patch:
        running_from(patch, 2)
        with pytest.raises(Refused, match="its server was started"):
            give_up()
    assert not scene.target().facts().given_up
    is_whole(scene, "1,2")


@pytest.mark.parametrize(("number", "prefix"), [(2, "pg.swap.move"), (2, "pg.restore.give_up")])
def test_a_journal_that_cannot_be_read_now_lets_nothing_go(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, number: int, prefix: str
) -> None:
    if prefix == "pg.swap.move":
        killed(lambda: restore(scene.target(), scene.taken), number, prefix)
    else:
        killed(in_place_up_to_the_pages(scene), number, prefix)
    journal = scene.data / ".backupd-restore" / "journal.json"
    before = sorted(path for path in scene.data.rglob("*"))
    real = Path.read_bytes

    def broken(self: Path) -> bytes:
        if self == journal:
            raise OSError(errno.EIO, "Input/output error", str(self))
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", broken)
        for what in (
            lambda: recover_active(scene.data, scene.choices()),
            lambda: scene.target().begin("r2"),
            lambda: scene.target().facts(),
            lambda: scene.target().abandon(),
        ):
            with pytest.raises(BackupdError, match="is not known"):
                what()
    text = journal.read_bytes()
    journal.write_bytes(text[:-9])
    with pytest.raises(NotHealthy, match="is not known"):
        recover_active(scene.data, scene.choices())
    journal.unlink()
    with pytest.raises(NotHealthy, match="is not known"):
        recover_active(scene.data, scene.choices())
    journal.write_bytes(text)
    assert sorted(path for path in scene.data.rglob("*")) == before
    recover_active(scene.data, scene.choices())
    if prefix == "pg.swap.move":
        is_whole(scene, "1")
