"""An archive in the hands of a thief with the writer's credentials: every sum is right, and what is said is not."""

from __future__ import annotations

import copy
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupd.archive import names
from backupd.archive.envelope import seal, unseal
from backupd.archive.keys import KeySources
from backupd.archive.local import LocalStore
from backupd.bootstrap.disaster import Origin, archive_house
from backupd.decide.restore_path import RestoreWish
from backupd.digests import sha256_hex
from backupd.errors import BackupdError
from backupd.runs.restore import run_restore
from backupd.runs.restore_plan import plan_restore
from tests.archive_builders import open_archive, take_full

Json = Any


def make_archive(root: Path) -> Path:
    """A sound archive of one small SQLite database, with one full."""
    root.mkdir()
    with closing(sqlite3.connect(root / "app.db", isolation_level=None)) as database:
        database.execute("CREATE TABLE ledger(id INTEGER PRIMARY KEY, body TEXT)")
        database.executemany("INSERT INTO ledger(body) VALUES (?)", [(f"row {n} " * 40,) for n in range(200)])
    (root / "archive").mkdir()
    take_full(open_archive(LocalStore(root / "archive")), root / "app.db", 7)
    return root / "archive"


@dataclass(frozen=True, slots=True)
class Scene:
    """A host with an archive, a target that is not there yet, and everything else, which nobody may touch."""

    root: Path

    @classmethod
    def of(cls, root: Path, archive: Path) -> Scene:
        shutil.copytree(archive, root / "archive")
        (root / "elsewhere").mkdir()
        (root / "elsewhere" / "kept").write_bytes(b"kept")
        return cls(root)

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    @property
    def target(self) -> Path:
        return self.root / "target"

    def object(self, kind: str) -> tuple[Path, str]:
        """The only object of a kind, and its name."""
        [path] = [each for each in self.archive.glob("db/*/**/*") if f"/{kind}" in str(each) and each.is_file()]
        return path, path.relative_to(self.archive).as_posix()

    def say(self, path: Path, kind: str, change: Callable[[Json], Json]) -> None:
        """Let a sealed object say something else, with the right sum."""
        name = path.relative_to(self.archive).as_posix()
        content = unseal(kind, name, path.read_bytes(), None)
        said = change(copy.deepcopy(content))
        path.chmod(0o600)
        if isinstance(said, bytes):
            path.write_bytes(f"backupd-{kind} v1 sha256={sha256_hex(said)}\n".encode() + said)
        else:
            repository = content["repository"]
            body = {key: value for key, value in said.items() if key not in ("object", "repository")}
            path.write_bytes(sealed(kind, name, repository, body))

    def restore(self) -> BackupdError | None:
        """What ``backupctl restore --from`` does; answers with the error that it ends with."""
        try:
            with archive_house(Origin(str(self.archive)), KeySources()) as house:
                context = house.context(house.databases()[0] if house.databases() else "orders")
                plan = plan_restore(context, RestoreWish.latest(), str(self.target))
                run_restore(context, plan)
        except BackupdError as error:
            return error
        return None

    def everything_else(self) -> dict[str, bytes]:
        """All files outside of the target."""
        found = [path for path in self.root.rglob("*") if not path.is_relative_to(self.target)]
        return {str(path): path.read_bytes() if path.is_file() else b"" for path in found}


def sealed(kind: str, name: str, repository: str, content: Json) -> bytes:
    """As ``seal``, also for what JSON can say and Python would not."""
    try:
        return seal(kind, name, repository, content)
    except UnicodeEncodeError:
        body = json.dumps({**content, "object": name, "repository": repository}).encode()
        return f"backupd-{kind} v1 sha256={sha256_hex(body)}\n".encode() + body


def record_of(scene: Scene) -> Path:
    """The record of the full."""
    path, name = scene.object("backup")
    assert names.is_record(name)
    return path


def places_in(value: Json, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place of a JSON value that something else could be said at."""
    found = [at] if at else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += places_in(item, (*at, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            found += places_in(item, (*at, number))
    return found


def put(value: Json, at: tuple[str | int, ...], said: Json) -> Json:
    """The value with something else at a place; a place that is gone by now is left out."""
    inner = value
    for key in at[:-1]:
        try:
            inner = inner[key]
        except (KeyError, IndexError, TypeError):
            return value
    try:
        inner[at[-1]] = said
    except (KeyError, IndexError, TypeError):
        return value
    return value
