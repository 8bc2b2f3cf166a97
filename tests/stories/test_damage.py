"""Damage in the archive, seen through the command line: named with status 6, and nothing live is touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stories.home import Home, digest, home, sums_of


@dataclass(frozen=True, slots=True)
class Shelf:
    """A pair with a full and two incrementals, all of which is needed for the latest state."""

    pair: Home
    full: str
    increments: tuple[str, str]

    def name_of(self, path: Path) -> str:
        return str(path.relative_to(self.pair.archive))

    def one(self, kind: str) -> Path:
        """An object of this kind that the latest state needs."""
        base = next(self.pair.archive.glob("db/*"))
        found = {
            "data": base / "data" / self.full,
            "map": base / "map" / self.full,
            "backup": base / "backup" / self.full,
            "incremental": base / "backup" / self.increments[0],
            "identity": base / "identity.json",
            "repo": self.pair.archive / "repo.json",
            "log": base / "log",
        }[kind]
        return found if found.is_file() else min(path for path in found.rglob("*") if path.is_file())

    def other(self, kind: str) -> Path:
        """Another object, to be put in that one's place."""
        return {"log": max(self.one("log").parent.iterdir()), "data": self.one("map")}.get(kind, self.one("data"))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    with home(tmp_path_factory.mktemp("damage")) as made:
        made.up()
        full = made.backup("full")["id"]
        increments = []
        for _ in range(2):
            made.commit()
            made.commit("UPDATE ledger SET body = randomblob(2500) WHERE id % 3 = 0")
            increments.append(made.backup()["id"])
        # What is live differs from what is archived in every page, so that a restore must fetch all.
        made.commit("UPDATE ledger SET body = randomblob(2500)")
        made.wait_replayed()
        made.ok("verify", "--level", "data")
        yield Shelf(made, full, (increments[0], increments[1]))


def _flipped(path: Path, other: Path) -> None:
    del other
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def _cut(path: Path, other: Path) -> None:
    del other
    path.write_bytes(path.read_bytes()[:-7])


def _removed(path: Path, other: Path) -> None:
    del other
    path.unlink()


def _swapped(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "flipped": _flipped,
    "cut": _cut,
    "removed": _removed,
    "swapped": _swapped,
}
FAST = {("data", "flipped"), ("log", "removed")}
CASES = [
    pytest.param(kind, damage, marks=[] if (kind, damage) in FAST else [pytest.mark.slow])
    for kind in ("data", "map", "log", "backup", "incremental")
    for damage in DAMAGES
]


@pytest.fixture
def damaged(shelf: Shelf, tmp_path: Path) -> Iterator[Callable[[str, str], Path]]:
    """Damages one object; the whole archive is as it was afterwards, verdicts included."""
    kept = tmp_path / "kept"
    shutil.copytree(shelf.pair.archive, kept)

    def damage(kind: str, how: str) -> Path:
        path = shelf.one(kind)
        DAMAGES[how](path, shelf.other(kind))
        return path

    yield damage
    shutil.rmtree(shelf.pair.archive)
    shutil.copytree(kept, shelf.pair.archive)


def _alive(shelf: Shelf) -> tuple[str, str]:
    pair = shelf.pair
    pair.wait_same()
    return digest(pair.active), str(pair.writer().pair().history)


@pytest.mark.parametrize(("kind", "how"), CASES)
def test_damage_is_named_and_nothing_is_written_over_live_data(
    shelf: Shelf, damaged: Callable[[str, str], Path], kind: str, how: str, tmp_path: Path
) -> None:
    pair = shelf.pair
    before = _alive(shelf)
    path = damaged(kind, how)
    named = shelf.name_of(path)
    # A removed record cannot be found by itself; what builds on it names it.
    words = path.name if kind in {"backup", "incremental"} else named
    # The restores come first: nobody has told them yet.
    for target in ([], ["--target", str(tmp_path / "out")]):
        problem, because, next_step = pair.fails(6, "restore", "orders", *target, "--yes")
        assert words in problem + because
        assert "backupctl" in next_step
        assert _alive(shelf) == before
        assert pair.leftovers() == []
        assert not list((tmp_path / "out").glob("*"))
    answer = pair.run("verify", "--level", "data", "--json")
    assert answer.status == 6, answer.told()
    assert answer.json["sound"] is False
    assert words in json.dumps(answer.json), answer.told()
    # From now on it is known.
    states = [row["state"] for row in pair.ok("list", "--json").json["backups"]]
    assert len(states) < 3 or "damaged" in states
    if "--backup" in next_step and kind in {"backup", "incremental"}:
        command = next_step.partition("backupctl ")[2].split()
        pair.ok(*command, "--target", str(tmp_path / "other"))


def test_what_is_repaired_is_sound_again(shelf: Shelf, tmp_path: Path) -> None:
    path = shelf.one("log")
    content = path.read_bytes()
    _flipped(path, path)
    pair = shelf.pair
    assert pair.run("verify").status == 6
    problem, _, _ = pair.fails(6, "restore", "orders", "--backup", shelf.increments[1], "--target", str(tmp_path / "x"))
    assert shelf.name_of(path) in problem
    path.write_bytes(content)
    pair.ok("verify", "--level", "data")
    pair.ok("restore", "orders", "--backup", shelf.increments[1], "--target", str(tmp_path / "out"))
    entry = pair.ledger[3]
    assert sums_of(tmp_path / "out" / "app.db") == (entry.rows, entry.total)


def test_a_damaged_full_makes_the_next_incremental_a_full_and_deletes_nothing(
    shelf: Shelf, damaged: Callable[[str, str], Path]
) -> None:
    pair = shelf.pair
    before = [row["id"] for row in pair.ok("list", "--json").json["backups"]]
    named = shelf.name_of(damaged("data", "flipped"))
    # One object a run, least recently read first: sooner or later it is this one's turn.
    for _ in range(20):
        answer = pair.run("verify", "orders", "--budget", "1B", "--json")
        if answer.status != 0:
            break
        assert answer.json["databases"][0]["sample"] is True
    assert answer.status == 6, answer.told()
    (finding,) = answer.json["databases"][0]["findings"]
    assert (finding["object"], finding["backup"]) == (named, shelf.full)
    # The next runs read others, and do not forget.
    again = pair.run("verify", "orders", "--budget", "1B", "--json")
    assert again.status == 6, again.told()
    assert again.json["databases"][0]["known_damage"][0]["backup"] == shelf.full
    assert "damaged" in pair.ok("show", shelf.full).out
    made = pair.backup("incremental")
    assert made["type"] == "full"
    assert any("cannot be built on" in note for note in pair.ok("show", made["id"], "--json").json["notes"])
    rows = {row["id"]: row["state"] for row in pair.ok("list", "--json").json["backups"]}
    assert [backup_id for backup_id in rows if backup_id != made["id"]] == before
    assert rows[shelf.full] == "damaged"
    assert pair.ok("prune", "orders", "--dry-run", "--json").json["databases"][0]["drop"] == []
