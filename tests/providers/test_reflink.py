"""Clones keep the contract on real XFS and real btrfs, and say no elsewhere."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.errors import NotHealthy
from backupd.ports import SnapshotProvider
from backupd.providers.reflink import ReflinkProvider
from tests.contracts.provider_contract import PAGES, ProviderContract, listing
from tests.loop_mounts import loop_mount


def fresh(mount: Path) -> Iterator[Path]:
    directory = mount / "copy"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


@pytest.mark.real
@pytest.mark.root
class TestReflinkOnXfs(ProviderContract):
    @pytest.fixture
    def provider(self) -> SnapshotProvider:
        return ReflinkProvider()

    @pytest.fixture
    def directory(self, xfs_mount: Path) -> Iterator[Path]:
        yield from fresh(xfs_mount)


@pytest.mark.real
@pytest.mark.root
class TestReflinkOnBtrfs(ProviderContract):
    @pytest.fixture
    def provider(self) -> SnapshotProvider:
        return ReflinkProvider()

    @pytest.fixture
    def directory(self, btrfs_mount: Path) -> Iterator[Path]:
        yield from fresh(btrfs_mount)

    def test_a_file_without_copy_on_write_is_cloned_too(self, provider: SnapshotProvider, directory: Path) -> None:
        (directory / "app.db").touch()
        subprocess.run(["chattr", "+C", str(directory / "app.db")], check=True)
        (directory / "app.db").write_bytes(PAGES)
        snapshot = provider.take(directory, ["app.db"], "L1")
        assert (snapshot.directory / "app.db").read_bytes() == PAGES
        provider.discard(snapshot)


@pytest.mark.real
@pytest.mark.root
def test_a_filesystem_that_cannot_is_told(tmp_path: Path) -> None:
    with loop_mount(tmp_path, "ext4", size_bytes=16 << 20) as mounted:
        copy = mounted / "copy"
        copy.mkdir()
        (copy / "app.db").write_bytes(PAGES)
        answer = ReflinkProvider().suits(copy)
        assert not answer.suits
        assert "cannot clone files" in answer.because
        with pytest.raises(NotHealthy):
            ReflinkProvider().take(copy, ["app.db"], "L1")
        assert listing(copy) == ["app.db"]
