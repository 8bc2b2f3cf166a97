"""The local store keeps the store's contract, and the promises about files that only it makes."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from backupd import steps
from backupd.archive import local
from backupd.archive.local import LocalStore
from backupd.errors import ArchiveUnreachable, InjectedFault, ObjectExists
from backupd.ports import ObjectStore
from backupd.process import mark_of_process
from tests.contracts.store_contract import StoreContract
from tests.fakes_store import MemoryStore


class TestLocalStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.root = tmp_path / "archive"
        self.root.mkdir(mode=0o700)

    def make_store(self) -> ObjectStore:
        return LocalStore(self.root)


class TestLocalStoreWithoutHardLinks(TestLocalStore):
    @pytest.fixture(autouse=True)
    def _no_links(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)


class TestLocalStoreWithoutSyncfs(TestLocalStore):
    @pytest.fixture(autouse=True)
    def _no_syncfs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local, "sync_filesystem", lambda _: False)


class TestMemoryStore(StoreContract):
    def make_store(self) -> ObjectStore:
        return MemoryStore()


def test_nothing_is_readable_by_others(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = LocalStore.prepare(tmp_path / "archive")
        store.create("a/b/c", [b"secret"])
    finally:
        os.umask(old)
    for path in [tmp_path / "archive", *(tmp_path / "archive").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_prepare_probes_and_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore.prepare(tmp_path / "archive")
    assert not [path for path in (tmp_path / "archive").rglob("*") if path.is_file()]
    assert LocalStore.prepare(tmp_path / "archive").describe() == store.describe()


def test_prepare_refuses_a_filesystem_that_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", os.replace)
    with pytest.raises(ArchiveUnreachable, match="cannot be used") as caught:
        LocalStore.prepare(tmp_path)
    assert "overwrite" in caught.value.because


def test_a_missing_directory_is_said_in_three_lines(tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnreachable) as caught:
        LocalStore(tmp_path / "not-mounted")
    assert len(caught.value.lines()) == 3
    with pytest.raises(ArchiveUnreachable):
        LocalStore.prepare(tmp_path / "no" / "parent")
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveUnreachable, match="file"):
        LocalStore(tmp_path / "file")


def test_a_directory_that_goes_away_is_no_missing_object(tmp_path: Path) -> None:
    store = LocalStore.prepare(tmp_path / "archive")
    store.create("x", [b"1"])
    (tmp_path / "archive").rename(tmp_path / "elsewhere")
    for call in (
        lambda: list(store.read("x")),
        lambda: store.stat("x"),
        lambda: list(store.list("")),
        lambda: store.create("y", [b""]),
        store.sync,
    ):
        with pytest.raises(ArchiveUnreachable):
            call()
    assert not (tmp_path / "archive").exists()


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore.prepare(tmp_path / "archive")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(local, "write_new", full)
        with pytest.raises(ArchiveUnreachable) as caught:
            store.create("x", [b"1"])
    assert "disk is full" in caught.value.because
    assert not list(store.list(""))
    store.create("x", [b"1"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission(tmp_path: Path) -> None:
    store = LocalStore.prepare(tmp_path / "archive")
    (tmp_path / "archive").chmod(0o500)
    try:
        with pytest.raises(ArchiveUnreachable) as caught:
            store.create("x", [b"1"])
    finally:
        (tmp_path / "archive").chmod(0o700)
    assert "ls -ld" in caught.value.next_step


def test_a_killed_writer_leaves_a_temporary_file_that_the_next_one_sweeps(tmp_path: Path) -> None:
    LocalStore.prepare(tmp_path / "archive")
    program = (
        "from pathlib import Path; from backupd.archive.local import LocalStore;"
        f"LocalStore(Path({str(tmp_path / 'archive')!r})).create('x', [b'1'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "BACKUPD_FAULT": "die:1@store.link"}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    left = [path for path in (tmp_path / "archive").rglob("*") if path.is_file()]
    assert [path.parent.name for path in left] == ["tmp"]
    store = LocalStore(tmp_path / "archive")
    assert not list(store.list(""))
    store.create("x", [b"2"])
    assert [path.name for path in (tmp_path / "archive").rglob("*") if path.is_file()] == ["x"]


def test_temporary_files_of_the_living_and_of_other_hosts_stay(tmp_path: Path) -> None:
    store = LocalStore.prepare(tmp_path / "archive")
    ours = tmp_path / "archive" / "tmp" / f"{mark_of_process()}-aa"
    foreign = tmp_path / "archive" / "tmp" / "00000000-00000000-1-1-bb"
    for path in (ours, foreign):
        path.touch()
    assert store.sweep_tmp() == 0
    assert ours.exists()
    assert foreign.exists()


@pytest.mark.parametrize("where", ["store.create", "store.link", "store.sync", "store.delete"])
def test_every_step_can_fail_and_be_repeated(tmp_path: Path, where: str) -> None:
    store = LocalStore.prepare(tmp_path / "archive")

    def walk() -> None:
        try:
            store.create("a/x", [b"1"])
        except ObjectExists:
            pass
        store.sync()
        store.delete("a/x")

    steps.arm("fail", 1, where)
    try:
        with pytest.raises(InjectedFault):
            walk()
    finally:
        steps.disarm()
    walk()
    assert not [path for path in (tmp_path / "archive").rglob("*") if path.is_file()]
