"""Subvolume snapshots keep the contract on a real btrfs, for root and for a plain user."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backupd.errors import NotHealthy
from backupd.ports import SnapshotProvider
from backupd.providers.btrfs import BtrfsProvider
from tests.contracts.provider_contract import PAGES, ProviderContract, listing
from tests.loop_mounts import loop_mount

NOBODY = 65534


def subvolume(path: Path) -> Path:
    subprocess.run(["btrfs", "-q", "subvolume", "create", str(path)], check=True)
    return path


def fresh(mount: Path, name: str = "copy") -> Iterator[Path]:
    yield subvolume(mount / name)
    subprocess.run(["btrfs", "-q", "subvolume", "delete", str(mount / name)], check=True)


@pytest.mark.real
@pytest.mark.root
class TestBtrfs(ProviderContract):
    @pytest.fixture
    def provider(self) -> SnapshotProvider:
        return BtrfsProvider()

    @pytest.fixture
    def directory(self, btrfs_mount: Path) -> Iterator[Path]:
        yield from fresh(btrfs_mount)

    def test_the_kernel_agrees(self, provider: SnapshotProvider, copy: Path) -> None:
        snapshot = provider.take(copy, ["app.db"], "L1")
        shown = subprocess.run(
            ["btrfs", "subvolume", "show", str(snapshot.directory)], capture_output=True, text=True, check=True
        ).stdout
        provider.discard(snapshot)
        assert "readonly" in shown

    def test_no_older_snapshot_s_files_are_inside(self, provider: SnapshotProvider, copy: Path) -> None:
        first = provider.take(copy, ["app.db"], "L1")
        second = provider.take(copy, ["app.db"], "L2")
        inside = [path for path in (second.directory / ".backupd-snapshot").rglob("*") if path.is_file()]
        assert inside == []
        assert (second.directory / "app.db").read_bytes() == PAGES
        provider.discard(second)
        provider.discard(first)

    def test_many_missing_files_are_told_briefly(self, provider: SnapshotProvider, copy: Path) -> None:
        with pytest.raises(NotHealthy, match="lacks 0, 1, 2, 3, 4 and 1995 more"):
            provider.take(copy, [str(number) for number in range(2000)], "L1")

    def test_a_plain_directory_is_not_a_subvolume(self, provider: SnapshotProvider, copy: Path) -> None:
        answer = provider.suits(copy / "sub")
        assert not answer.suits
        assert "not the root of a btrfs subvolume" in answer.because
        with pytest.raises(NotHealthy):
            provider.take(copy / "sub", ["more.db"], "L1")
        assert listing(copy / "sub") == ["more.db"]

    def test_a_file_in_an_inner_subvolume_is_told(self, provider: SnapshotProvider, copy: Path) -> None:
        """Such a file is on no snapshot of the outer subvolume; a backup without it would be a lie."""
        inner = subvolume(copy / "inner")
        (inner / "wal").write_bytes(b"x")
        with pytest.raises(NotHealthy, match="inner/wal"):
            provider.take(copy, ["app.db", "inner/wal"], "L1")
        assert provider.leftovers(copy) == []
        subprocess.run(["btrfs", "-q", "subvolume", "delete", str(inner)], check=True)


def as_nobody(walk: Callable[[], None]) -> None:
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            walk()
        except BaseException as error:  # noqa: BLE001 - a child of a test must never run the test's own end
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.real
@pytest.mark.root
@pytest.mark.parametrize("allowed", [True, False])
def test_a_plain_user_takes_only_what_he_can_remove(tmp_path: Path, *, allowed: bool) -> None:
    options = "loop,user_subvol_rm_allowed" if allowed else "loop"
    with loop_mount(tmp_path, "btrfs", size_bytes=128 << 20, options=options) as mounted:
        copy = subvolume(mounted / "copy")
        (copy / "app.db").write_bytes(PAGES)
        os.chown(copy, NOBODY, NOBODY)
        os.chown(copy / "app.db", NOBODY, NOBODY)
        for above in [*tmp_path.parents[:3], tmp_path]:
            above.chmod(above.stat().st_mode | 0o111)

        def walk() -> None:
            provider = BtrfsProvider()
            answer = provider.suits(copy)
            assert answer.suits is allowed, answer.because
            if not allowed:
                assert "user_subvol_rm_allowed" in answer.because
                return
            snapshot = provider.take(copy, ["app.db"], "L1")
            assert (snapshot.directory / "app.db").read_bytes() == PAGES
            provider.discard(snapshot)

        as_nobody(walk)
        assert listing(copy) == ["app.db"]


def test_another_filesystem_is_told(tmp_path: Path) -> None:
    if subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, check=True).stdout == b"btrfs\n":
        pytest.skip("the temporary directory is on btrfs")
    answer = BtrfsProvider().suits(tmp_path)
    assert not answer.suits
    assert "not on btrfs" in answer.because
    assert listing(tmp_path) == []
