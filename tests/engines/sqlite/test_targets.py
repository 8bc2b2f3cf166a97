"""A restore goes to the active or to a scratch directory; a passive is never a target, whatever it is called."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backupd.engines.sqlite.directory_target import DirectoryTarget
from backupd.engines.sqlite.targets import choose_target
from backupd.errors import Refused
from backupd.pipeline.page_file import SingleFile
from tests.loop_mounts import bound


@pytest.fixture
def writer(tmp_path: Path) -> Any:
    """A pair whose active is ``a`` and whose passive is ``b``; both files are there."""
    copies = {name: tmp_path / name / "app.db" for name in ("a", "b")}
    for path in copies.values():
        path.parent.mkdir()
        path.write_bytes(b"live")
    pair = SimpleNamespace(active="a", passive="b")
    return cast(Any, SimpleNamespace(database="orders", copies=copies, pair_state=lambda: pair))


def refused(writer: Any, target: Path | str) -> None:
    with pytest.raises(Refused) as caught:
        choose_target(writer, str(target))
    assert caught.value.exit_status == 4
    assert "passive copy (b)" in caught.value.because


def test_the_passive_is_refused_by_every_name_that_it_has(writer: Any, tmp_path: Path) -> None:
    refused(writer, "b")
    refused(writer, tmp_path / "b")
    refused(writer, tmp_path / "b" / "app.db")
    refused(writer, tmp_path / "a" / ".." / "b")
    (tmp_path / "link").symlink_to(tmp_path / "b")
    refused(writer, tmp_path / "link")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "again").symlink_to(tmp_path / "link")
    refused(writer, tmp_path / "far" / "again")
    (tmp_path / "file").symlink_to(tmp_path / "b" / "app.db")
    refused(writer, tmp_path / "file")


@pytest.mark.real
def test_a_bind_mount_of_the_passive_is_the_passive(writer: Any, tmp_path: Path) -> None:
    with bound(tmp_path / "b", tmp_path / "scratch") as place:
        refused(writer, place)
    with bound(tmp_path, tmp_path / "all") as place:
        refused(writer, place / "b")
    assert isinstance(choose_target(writer, str(tmp_path / "scratch")), DirectoryTarget)


def test_a_stage_that_is_a_link_to_somewhere_is_not_written_through(tmp_path: Path, writer: Any) -> None:
    """In a directory that others may write to, somebody could put one there."""
    target = choose_target(writer, str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    stage = cast(Path, target.stage_file(cast(Any, None)))
    stage.symlink_to(tmp_path / "b" / "app.db")
    with pytest.raises(OSError, match="symbolic link"):
        SingleFile(stage).open(4096)
    assert (tmp_path / "b" / "app.db").read_bytes() == b"live"
