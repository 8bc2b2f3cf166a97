"""What a restore writes as a volume is the cluster's files again, with its owner, and for nobody else."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.engines.postgres import sync_filesystem, volume_files
from backupd.engines.postgres.data_files import find_files
from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.small_sources import ControlSource
from backupd.engines.postgres.volume_files import VolumeFiles
from backupd.engines.postgres.volume_source import VolumeSource
from backupd.engines.postgres.volume_table import ClusterFacts, Entry, Kind, Tablespace, VolumeTable, lay_out
from backupd.model.records import BackupType
from backupd.pipeline.fetch import fetch_file
from backupd.pipeline.store import store_file
from backupd.ports import PageFile
from tests.archive_builders import FileSource, open_archive
from tests.engines.postgres.cluster_builders import PAGE, a_data_directory, frozen, pages, put, read_all
from tests.fakes_store import MemoryStore
from tests.pg_pairs import PairFactory, all_versions

FACTS = ClusterFacts(150018, "7", 1, 2, 3, "label", tablespaces=(Tablespace(16499, "/nowhere"),))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return a_data_directory(tmp_path)


@pytest.fixture
def volume(data: Path) -> tuple[VolumeTable, bytes]:
    source = frozen(data)
    content, bad = read_all(source)
    assert bad == []
    return source.table(FACTS), content


def restored(root: Path, table: VolumeTable, content: bytes, **how: Any) -> VolumeFiles:
    """Written by several threads, in blocks as the pipeline has them."""
    files = VolumeFiles(root, table, **how)
    files.open(table.size_bytes)
    step = 3 * PAGE
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda at: files.write(at, content[at : at + step]), range(0, len(content), step)))
    files.start_writing_out(0, len(content))
    files.make_durable()
    return files


def tree(top: Path) -> dict[str, bytes | None]:
    """All paths below ``top`` with contents, None for a directory."""
    found: dict[str, bytes | None] = {}
    for place, directories, names in os.walk(top, followlinks=True):
        below = Path(place).relative_to(top)
        found |= {str(below / name): None for name in directories}
        found |= {str(below / name): (Path(place) / name).read_bytes() for name in names}
    return found


def test_the_files_are_what_they_were(data: Path, volume: tuple[VolumeTable, bytes], tmp_path: Path) -> None:
    table, content = volume
    root, space = tmp_path / "new/data", tmp_path / "new-space"
    files = restored(root, table, content, tablespaces={16499: space})
    assert files.was_empty
    assert files.size_bytes == len(content)
    expected = {
        path: (None if (data / path).is_dir() else (data / path).read_bytes())
        for path in (entry.path for entry in find_files(data).entries if entry.path != ".")
    }
    assert tree(root) == expected
    assert Path(os.readlink(root / "pg_tblspc/16499")) == space
    assert files.read(0, len(content)) == content
    assert files.read(len(content) - 5, 100) == content[-5:]
    assert files.read(len(content), 1) == b""
    assert list(files.strays()) == []
    assert files.describe() == root
    files.close()
    files.close()


def test_nobody_else_may_look(data: Path, volume: tuple[VolumeTable, bytes], tmp_path: Path) -> None:
    os.umask(0)
    try:
        restored(tmp_path / "new", *volume, tablespaces={16499: tmp_path / "new-space"}).close()
    finally:
        os.umask(0o022)
    for top in (tmp_path / "new", tmp_path / "new-space"):
        for place, _, names in os.walk(top):
            assert os.stat(place).st_mode & 0o777 == 0o700
            assert all((Path(place) / name).stat().st_mode & 0o777 == 0o600 for name in names)


def test_a_cluster_with_group_access_keeps_it(data: Path, tmp_path: Path) -> None:
    data.chmod(0o750)
    (data / "base").chmod(0o755)
    (data / "postgresql.conf").chmod(0o666)
    put(data, "archive.sh", b"#!/bin/sh\n").chmod(0o755)
    source = frozen(data)
    content, _ = read_all(source)
    table = source.table(FACTS)

    def modes(root: Path) -> list[int]:
        paths = ["", "base", "postgresql.conf", "PG_VERSION", "archive.sh"]
        return [(root / path).stat().st_mode & 0o777 for path in paths]

    restored(tmp_path / "new", table, content).close()
    assert modes(tmp_path / "new") == [0o750, 0o750, 0o640, 0o600, 0o750]
    restored(tmp_path / "closed", table, content, owner=Owner(os.getuid(), os.getgid())).close()
    assert modes(tmp_path / "closed") == [0o700, 0o700, 0o600, 0o600, 0o700]


def test_the_owner_is_the_one_that_was_asked_for(volume: tuple[VolumeTable, bytes], tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give files away")
    root, space = tmp_path / "new", tmp_path / "new-space"
    restored(root, *volume, tablespaces={16499: space}, owner=Owner(12345, 12346)).close()
    for top in (root, space):
        for place, directories, names in os.walk(top):
            for name in ["", *directories, *names]:
                facts = os.lstat(Path(place) / name)
                assert (facts.st_uid, facts.st_gid) == (12345, 12346), Path(place) / name


def test_a_restore_that_was_cut_goes_on(volume: tuple[VolumeTable, bytes], tmp_path: Path) -> None:
    table, content = volume
    root = tmp_path / "new"
    first = VolumeFiles(root, table)
    first.open(table.size_bytes)
    first.write(0, b"\xff" * (4 * PAGE))
    first.close()
    put(root, "base/5/16384", b"\xee" * 9 * PAGE)
    put(root, "base/5/77777", b"stray")
    again = VolumeFiles(root, table)
    again.open(table.size_bytes)
    assert not again.was_empty
    assert [path.name for path in again.strays()] == ["77777"]
    for at in range(0, len(content), PAGE):
        again.write(at, content[at : at + PAGE])
    assert again.read(0, len(content)) == content
    again.close()
    assert (root / "base/5/16384").stat().st_size == 5 * PAGE


def test_the_live_directory_is_read_as_a_volume_and_never_written(
    data: Path, volume: tuple[VolumeTable, bytes]
) -> None:
    table, content = volume
    live = VolumeFiles(data, table)
    live.open(None)
    assert live.size_bytes == len(content)
    assert not live.was_empty
    assert live.read(0, len(content)) == content
    with pytest.raises(OSError, match="Bad file descriptor"):
        live.write(0, content)
    live.close()

    (data / "base/5/16384").unlink()
    os.truncate(data / "base/5/16384_fsm", PAGE)
    put(data, "global/1262", pages(0, 4))
    live.open(None)
    entries = {entry.path: entry for entry in table.entries}
    gone, cut, grown = (entries[it] for it in ("base/5/16384", "base/5/16384_fsm", "global/1262"))
    assert live.read(gone.offset, gone.size_bytes) == bytes(gone.size_bytes)
    assert live.read(cut.offset, cut.size_bytes) == pages(0, 1) + bytes(2 * PAGE)
    assert live.read(grown.offset, 2 * PAGE)[: grown.size_bytes] == pages(0, 1)
    live.close()


def test_a_directory_that_is_not_there_is_empty(volume: tuple[VolumeTable, bytes], tmp_path: Path) -> None:
    live = VolumeFiles(tmp_path / "none", volume[0])
    live.open(None)
    assert (live.was_empty, live.size_bytes, live.read(0, PAGE)) == (True, 0, b"")
    live.close()


def test_pages_of_zeros_stay_holes_where_nothing_was(tmp_path: Path) -> None:
    table = VolumeTable(FACTS, *lay_out([Entry("big", Kind.RELATION, 1000 * PAGE), Entry("end", Kind.PLAIN, 10)]))
    content = bytes(500 * PAGE) + b"x" * PAGE + bytes(499 * PAGE) + b"0123456789".ljust(PAGE, b"\0")
    restored(tmp_path / "new", table, content).close()
    assert (tmp_path / "new/big").read_bytes() == content[: 1000 * PAGE]
    assert (tmp_path / "new/big").stat().st_blocks * 512 < 100 * PAGE
    put(tmp_path / "old", "big", b"\xff" * PAGE * 1000)
    restored(tmp_path / "old", table, content).close()
    assert (tmp_path / "old/big").read_bytes() == content[: 1000 * PAGE]
    assert (tmp_path / "old/end").read_bytes() == b"0123456789"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_volume_written_in_any_order_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    sizes = data.draw(st.lists(st.integers(0, 4 * PAGE), min_size=1, max_size=5))
    table = VolumeTable(FACTS, *lay_out(Entry(f"f{at}", Kind.PLAIN, size) for at, size in enumerate(sizes)))
    content = bytearray(table.size_bytes)
    for entry in table.entries:
        fill = data.draw(st.sampled_from([b"\0", b"a", b"\0" * PAGE + b"b" * 100]))
        content[entry.offset : entry.offset + entry.size_bytes] = (fill * (entry.size_bytes + 1))[: entry.size_bytes]
    files = VolumeFiles(tmp_path_factory.mktemp("any"), table)
    files.open(table.size_bytes)
    step = data.draw(st.integers(1, 5)) * PAGE
    for at in data.draw(st.permutations(range(0, len(content), step))):
        files.write(at, bytes(content[at : at + step]))
    assert files.read(0, len(content)) == content
    first = data.draw(st.integers(0, len(content)))
    assert files.read(first, len(content)) == content[first:]
    files.close()


@pytest.mark.parametrize("path", ["base/5/16384", "base/5", "base"])
def test_a_link_in_the_stage_is_not_followed(volume: tuple[VolumeTable, bytes], tmp_path: Path, path: str) -> None:
    root, elsewhere = tmp_path / "new", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / path).parent.mkdir(parents=True)
    (root / path).symlink_to(elsewhere / "file" if path.endswith("4") else elsewhere)
    files = VolumeFiles(root, volume[0])
    with pytest.raises(OSError, match="link"):
        files.open(volume[0].size_bytes)
    files.close()
    assert list(elsewhere.iterdir()) == []


def test_another_size_is_another_backup(volume: tuple[VolumeTable, bytes], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its table says"):
        VolumeFiles(tmp_path / "new", volume[0]).open(PAGE)


@pytest.mark.parametrize("kernel", ["5.7.19", "6.1.0-13-amd64"])
def test_old_kernels_sync_file_by_file(
    volume: tuple[VolumeTable, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    names = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*names[:2], kernel, *names[3:])))
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    restored(tmp_path / "new", *volume).close()
    files = sum(1 for entry in volume[0].entries if entry.kind != Kind.DIRECTORY)
    assert (len(synced) > files) is kernel.startswith("5.7")


def test_a_page_that_could_not_be_read_is_not_taken_for_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error of the disk, of the process's or the host's limits, where the backup has new pages: zeros."""
    table = VolumeTable(FACTS, *lay_out([Entry("a", Kind.RELATION, 200 * PAGE)]))
    wanted = bytearray(os.urandom(200 * PAGE))
    wanted[100 * PAGE : 110 * PAGE] = bytes(10 * PAGE)
    (tmp_path / "source").write_bytes(wanted)
    archive = open_archive(MemoryStore())
    backup = archive.begin(BackupType.FULL, parent=None)
    stored = store_file(FileSource(tmp_path / "source", page_bytes=PAGE), backup).file
    assert stored is not None
    stage = tmp_path / "stage"
    stage.mkdir()
    stale = wanted[: 100 * PAGE] + b"L" * (10 * PAGE) + wanted[110 * PAGE :]
    (stage / "a").write_bytes(stale)
    read = volume_files._read_at
    failed: list[int] = []

    def once(descriptor: int, view: memoryview, offset: int) -> None:
        if not failed and offset <= 100 * PAGE < offset + len(view):
            failed.append(offset)
            read(descriptor, view[: 100 * PAGE - offset], offset)
            raise OSError(errno.EIO, "Input/output error")
        read(descriptor, view, offset)

    monkeypatch.setattr(volume_files, "_read_at", once)
    fetch_file(stored, archive.store, VolumeFiles(stage, table))
    assert failed
    assert (stage / "a").read_bytes() == wanted


def test_a_stage_that_cannot_be_made_leaves_no_descriptor(tmp_path: Path) -> None:
    table = VolumeTable(FACTS, *lay_out([Entry("a", Kind.RELATION, PAGE)]))
    (tmp_path / "a").symlink_to("/etc/hostname")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(OSError, match="symbolic links"):
            VolumeFiles(tmp_path, table).open(table.size_bytes)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_write_that_failed_is_told(volume: tuple[VolumeTable, bytes], tmp_path: Path) -> None:
    sync = sync_filesystem.FilesystemSync([tmp_path])
    os.close(sync._descriptors[0])
    with pytest.raises(OSError, match="Bad file descriptor"):
        sync.run()
    sync.close()


@pytest.mark.real
@pytest.mark.parametrize("major", all_versions())
def test_a_restored_cluster_passes_the_server_s_own_check_and_starts(
    major: int, make_pair: PairFactory, tmp_path: Path
) -> None:
    server = make_pair(major, standby=False).a
    server.add_tablespace("outside")
    server.pgbench("-i", "-s", "2", "--tablespace=outside")
    server.stop()
    found = find_files(server.data)
    source = VolumeSource(found, found.roots(), data_checksums=True)
    content, bad = read_all(source)
    assert bad == []
    table = source.table(ClusterFacts(1, "7", 1, 2, 3, "label", tablespaces=found.tablespaces))
    control = memoryview(bytearray(PAGE))
    ControlSource(server.data, moving=False).read_into(control, 0)

    person, home = server.person, server.home
    root, space = home / "restored", home / "restored-space"
    owner = Owner(person.uid, person.gid) if os.geteuid() == 0 else None
    restored(root, table, content, tablespaces={found.tablespaces[0].oid: space}, owner=owner).close()
    put(root, "global/pg_control", bytes(control))
    for name in os.listdir(server.data / "pg_wal"):
        if (server.data / "pg_wal" / name).is_file():
            shutil.copy(server.data / "pg_wal" / name, root / "pg_wal" / name)
            os.chown(root / "pg_wal" / name, person.uid, person.gid)
    os.chown(root / "global/pg_control", person.uid, person.gid)
    as_owner: dict[str, Any] = {"user": person.uid, "group": person.gid} if owner else {}
    checked = subprocess.run(
        [server.bin_directory / "pg_checksums", "--check", "-D", root],
        capture_output=True,
        text=True,
        check=True,
        **as_owner,
    )
    assert "Bad checksums:  0" in checked.stdout
    shutil.rmtree(server.data)
    os.rename(root, server.data)
    server.start()
    assert len(set(server.pgbench_sums())) == 1
    assert server.psql("SELECT count(*) FROM pgbench_accounts") == "200000"


def test_it_is_a_page_file(volume: tuple[VolumeTable, bytes], tmp_path: Path) -> None:
    port: PageFile = VolumeFiles(tmp_path / "new", volume[0])
    assert port.was_empty
