"""The moves of a swap, on plain directories: cut at every step, done again, and never a mixture that starts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from backupd.engines.postgres.swap import (
    Room,
    SwapPlan,
    clear_rooms,
    keep_todays_configuration,
    plan_swap,
    refuse_mounts,
)
from backupd.engines.postgres.swap_moves import carry_out, nobody_starts
from backupd.errors import InjectedFault, NotHealthy, Refused
from backupd.steps import arm, disarm

NAMES = ("PG_VERSION", "base", "global", "pg_wal", "pg_xact")


def make(directory: Path, age: str, *more: str) -> None:
    """A small cluster whose every file says how old it is."""
    for name in (*NAMES, *more):
        path = directory / name
        if name == "PG_VERSION" or "." in name:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(age)
        else:
            path.mkdir(parents=True)
            (path / "content").write_text(age)


def ages(directory: Path) -> dict[str, str]:
    """What is there and how old it is."""
    found = {}
    for path in directory.iterdir():
        if path.name != ".backupd-restore":
            found[path.name] = (path / "content").read_text() if path.is_dir() else path.read_text()
    return found


@pytest.fixture
def rooms(tmp_path: Path) -> tuple[Room, Room]:
    """A data directory with one tablespace, an old and a new state of both."""
    main, space = Room(tmp_path / "data"), Room(tmp_path / "space", "PG_16_")
    make(main.place, "old", "postgresql.conf", "recovery.signal", "pg_logical")
    make(main.stage, "new", "postgresql.conf", "backup_label.old", "extra.conf")
    for place, age in ((space.place, "old"), (space.stage, "new")):
        (place / f"PG_16_{age}").mkdir(parents=True)
        (place / f"PG_16_{age}" / "content").write_text(age)
    (space.place / "PG_15_other").mkdir()
    (space.place / "PG_15_other" / "content").write_text("other")
    return main, space


def test_a_swap_replaces_the_database_and_keeps_the_host(rooms: tuple[Room, Room]) -> None:
    main, space = rooms
    assert keep_todays_configuration(main) == ["postgresql.conf.restored"]
    carry_out(plan_swap(rooms), nobody_starts)
    assert ages(main.place) == {
        **dict.fromkeys(NAMES, "new"),
        "postgresql.conf": "old",
        "postgresql.conf.restored": "new",
        "backup_label.old": "new",
        "extra.conf": "new",
    }
    assert ages(space.place) == {"PG_16_new": "new", "PG_15_other": "other"}
    assert set(ages(main.old)) == {*NAMES, "recovery.signal", "pg_logical"}
    clear_rooms(rooms)
    assert not main.own.exists()
    assert not space.own.exists()
    clear_rooms(rooms)


def test_global_leaves_first_and_comes_last(rooms: tuple[Room, Room]) -> None:
    plan = plan_swap(rooms)
    assert plan.leaves[0] == (0, "global")
    assert plan.comes[-1] == (0, "global")
    assert plan.comes[-2][0] == 1  # after the tablespaces too


def test_a_swap_that_is_cut_at_any_step_goes_on(tmp_path: Path) -> None:
    number, finished = 0, False
    while not finished:
        number += 1
        place = tmp_path / str(number)
        main, space = Room(place / "data"), Room(place / "space", "PG_16_")
        make(main.place, "old", "recovery.signal")
        make(main.stage, "new")
        for where, age in ((space.place, "old"), (space.stage, "new")):
            (where / "PG_16_x").mkdir(parents=True)
            (where / "PG_16_x" / "content").write_text(age)
        plan = SwapPlan.from_json(json.loads(json.dumps(plan_swap([main, space]).to_json())))
        for again in range(3):
            # The first try is cut at this step, the second one step later, the third comes through.
            arm("fail", number + again if again < 2 else 0, "pg.swap.")
            try:
                carry_out(plan, nobody_starts)
                finished = again == 0
                break
            except InjectedFault:
                found = {**ages(main.place), **{f"space/{name}": age for name, age in ages(space.place).items()}}
                started = {age for name, age in found.items() if name != "recovery.signal"}
                assert "global" not in found or len(started) == 1, (number, found)
            finally:
                disarm()
        assert ages(main.place) == dict.fromkeys(NAMES, "new")
        assert ages(space.place) == {"PG_16_x": "new"}
        carry_out(plan, nobody_starts)  # and once more changes nothing
        assert ages(main.place) == dict.fromkeys(NAMES, "new")
    assert number > 15


def test_a_name_that_went_away_meanwhile_does_not_let_its_successor_go(rooms: tuple[Room, Room]) -> None:
    main, _ = rooms
    plan = plan_swap(rooms)
    (main.place / "PG_VERSION").unlink()
    carry_out(plan, nobody_starts)
    carry_out(plan, nobody_starts)
    assert (main.place / "PG_VERSION").read_text() == "new"


def test_log_with_a_room_of_its_own_is_swapped_there(tmp_path: Path) -> None:
    main, wal = Room(tmp_path / "data"), Room(tmp_path / "wal")
    make(main.place, "old")
    make(main.stage, "new")
    for directory, target in ((main.place, wal.place), (main.stage, wal.stage)):
        target.parent.mkdir(parents=True, exist_ok=True)
        (directory / "pg_wal" / "content").rename(tmp_path / "content")
        (directory / "pg_wal").rmdir()
        target.mkdir(exist_ok=True)
        (tmp_path / "content").rename(target / "content")
        (directory / "pg_wal").symlink_to(target)
    carry_out(plan_swap([main, wal]), nobody_starts)
    assert os.readlink(main.place / "pg_wal") == str(wal.place)
    assert (wal.place / "content").read_text() == "new"
    assert (wal.old / "content").read_text() == "old"


def test_a_directory_that_is_not_there_yet_is_only_filled(tmp_path: Path) -> None:
    main = Room(tmp_path / "data")
    make(main.stage, "new")
    carry_out(plan_swap([main]), nobody_starts)
    assert ages(main.place) == dict.fromkeys(NAMES, "new")


def test_a_mount_point_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = Room(tmp_path / "data")
    make(main.place, "old")
    make(main.stage, "new")
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path).endswith("/base"))
    with pytest.raises(Refused, match="cannot restore") as caught:
        plan_swap([main])
    assert "mount point" in caught.value.because
    with pytest.raises(Refused):
        refuse_mounts(main)


def test_a_move_that_the_disk_refuses_says_how_to_go_on(
    rooms: tuple[Room, Room], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_swap(rooms)
    real = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == "pg_xact":
            raise OSError(30, "Read-only file system", str(source))
        real(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(NotHealthy) as caught:
        carry_out(plan, nobody_starts)
    assert "Read-only" in caught.value.because
    assert "recover" in caught.value.next_step
    monkeypatch.setattr(os, "rename", real)
    carry_out(plan, nobody_starts)
    assert ages(rooms[0].place)["pg_xact"] == "new"
