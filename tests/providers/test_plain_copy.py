"""The plain copy keeps the contract on any disk, and is honest about a full one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from backupd.errors import NotHealthy
from backupd.ports import SnapshotProvider
from backupd.providers.place import building, make_directory, remove_tree
from backupd.providers.plain_copy import PlainCopyProvider
from tests.contracts.provider_contract import PAGES, ProviderContract, listing
from tests.loop_mounts import loop_mount


class TestPlainCopy(ProviderContract):
    @pytest.fixture
    def provider(self) -> SnapshotProvider:
        return PlainCopyProvider()

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        return tmp_path


@pytest.mark.parametrize("failing", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_it_copies_by_hand_where_the_kernel_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(failing, os.strerror(failing))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    (tmp_path / "app.db").write_bytes(PAGES * 10)
    snapshot = PlainCopyProvider().take(tmp_path, ["app.db"], "L1")
    assert (snapshot.directory / "app.db").read_bytes() == PAGES * 10


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "app.db").symlink_to("/etc/passwd")
    with pytest.raises(NotHealthy):
        PlainCopyProvider().take(tmp_path, ["app.db"], "L1")
    assert listing(tmp_path) == ["app.db"]


@pytest.mark.real
@pytest.mark.root
@pytest.mark.parametrize("asked_first", [True, False])
def test_a_full_disk_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, asked_first: bool
) -> None:
    """Once when the space is asked for first, once when it runs out under the copy."""
    with loop_mount(tmp_path, "ext4", size_bytes=16 << 20) as mounted:
        copy = mounted / "copy"
        copy.mkdir()
        free_bytes = os.statvfs(copy).f_bavail * os.statvfs(copy).f_frsize
        (copy / "app.db").write_bytes(os.urandom(free_bytes * 6 // 10))
        if not asked_first:
            monkeypatch.setattr("backupd.providers.plain_copy._require_space", lambda *_: None)
        with pytest.raises(NotHealthy) as caught:
            PlainCopyProvider().take(copy, ["app.db"], "L1")
        assert "full" in caught.value.because or "the disk has" in caught.value.because
        assert "free some space" in caught.value.next_step
        assert listing(copy) == ["app.db"]


def test_another_run_may_remove_the_empty_place_before_the_snapshot_is_in_it(tmp_path: Path) -> None:
    """The place below the directory is common to the databases whose copies lie there."""
    path = tmp_path / ".backupd-snapshot" / "orders.L1.plain-copy"
    removed: list[Path] = []

    def make(made: Path) -> None:
        if len(removed) < 3:
            made.parent.rmdir()
            removed.append(made)
        make_directory(made)

    with building(path, make, remove_tree):
        assert path.is_dir()
    remove_tree(path)
    assert listing(tmp_path) == []
