"""A file goes into the archive and comes back, whatever was in the way; and memory stays small."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from backupd import steps
from backupd.archive.database import DatabaseArchive
from backupd.engines.file_reader import FileReader
from backupd.errors import ArchiveUnreachable, DamageFound, InjectedFault, NotHealthy
from backupd.model.records import BackupType, Progress, StoredFile
from backupd.pages import page_hashes
from backupd.pipeline import layout
from backupd.pipeline.fetch import FetchResult, fetch_file
from backupd.pipeline.fetch_plan import plan_fetch
from backupd.pipeline.store import store_file
from tests.archive_builders import PAGE_BYTES, FileSource, hashes_of, open_archive, take_full, write_pages
from tests.fakes_store import FailingStore, MemoryStore

PAGES = 203  # neither whole super-blocks nor whole segments


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_pages(tmp_path / "app.db", PAGES)


@pytest.fixture
def archive() -> DatabaseArchive:
    return open_archive(MemoryStore())


@pytest.fixture
def stored(archive: DatabaseArchive, path: Path) -> StoredFile:
    (file,) = take_full(archive, path, 0).record.files
    return file


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    return tmp_path / "stage.db"


@pytest.mark.parametrize("pages", [0, 1, 7, 8, 9, 32, 33])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_length_comes_back(
    archive: DatabaseArchive, tmp_path: Path, stage: Path, pages: int, workers: int
) -> None:
    path = write_pages(tmp_path / "short.db", pages)
    backup = archive.begin(BackupType.FULL, parent=None)
    result = store_file(FileSource(path), backup, workers=workers)
    assert result.file is not None
    assert result.checked_pages == pages
    fetch_file(result.file, archive.store, stage, workers=workers)
    assert stage.read_bytes() == path.read_bytes()


def test_progress_ends_at_the_end(archive: DatabaseArchive, path: Path, stage: Path) -> None:
    seen: list[Progress] = []
    backup = archive.begin(BackupType.FULL, parent=None)
    result = store_file(FileSource(path), backup, report=seen.append)
    assert (seen[-1].done_bytes, seen[-1].total_bytes) == (PAGES * PAGE_BYTES, PAGES * PAGE_BYTES)
    assert result.file is not None
    seen.clear()
    fetch_file(result.file, archive.store, stage, report=seen.append)
    assert (seen[-1].done_bytes, seen[-1].total_bytes) == (PAGES * PAGE_BYTES, PAGES * PAGE_BYTES)


def test_an_archive_of_other_sizes_is_read_as_it_is(
    archive: DatabaseArchive, stored: StoredFile, path: Path, stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version may choose other super-blocks and segments; what is stored says its own."""
    monkeypatch.setattr(FileReader, "block_bytes", 1 << 20)
    monkeypatch.setattr(layout, "SEGMENT_BYTES", 1 << 26)
    fetch_file(stored, archive.store, stage)
    assert stage.read_bytes() == path.read_bytes()


def test_pages_that_are_here_are_not_fetched(
    archive: DatabaseArchive, stored: StoredFile, path: Path, stage: Path, tmp_path: Path
) -> None:
    live = tmp_path / "live.db"
    live.write_bytes(path.read_bytes())
    assert plan_fetch(stored, archive.store, stage, live).fetch_bytes == 0
    assert fetch_file(stored, archive.store, stage, live) == FetchResult(PAGES, 0, 0)
    assert stage.read_bytes() == path.read_bytes()

    stage.unlink()
    changed = bytearray(path.read_bytes())
    changed[50 * PAGE_BYTES : 50 * PAGE_BYTES + 9] = b"later row"
    live.write_bytes(changed + b"grown" * PAGE_BYTES)
    result = fetch_file(stored, archive.store, stage, live)
    assert result.fetched_pages == 8, "one super-block"
    assert result.read_bytes < sum(segment.stored_bytes for segment in stored.segments) / 5
    assert stage.read_bytes() == path.read_bytes()
    assert live.read_bytes() == changed + b"grown" * PAGE_BYTES, "the live file is only read"


def test_pages_come_from_stage_and_live_together(
    archive: DatabaseArchive, stored: StoredFile, path: Path, stage: Path, tmp_path: Path
) -> None:
    live = tmp_path / "live.db"
    good = path.read_bytes()
    odd, even = bytearray(good), bytearray(good)
    for page in range(PAGES):
        (odd if page % 2 else even)[page * PAGE_BYTES] ^= 0xFF
    live.write_bytes(odd)
    stage.write_bytes(even)
    assert fetch_file(stored, archive.store, stage, live).fetched_pages == 0
    assert stage.read_bytes() == good


def test_an_interrupted_fetch_goes_on(archive: DatabaseArchive, stored: StoredFile, path: Path, stage: Path) -> None:
    steps.arm("fail", 4, "fetch.write")
    with pytest.raises(InjectedFault):
        fetch_file(stored, archive.store, stage)
    steps.disarm()
    result = fetch_file(stored, archive.store, stage)
    assert result.reused_pages >= 3 * 32 - 5 * 8, "what was in the threads' hands is lost, no more"
    assert stage.read_bytes() == path.read_bytes()


def test_a_fetch_goes_on_inside_a_segment(
    archive: DatabaseArchive, stored: StoredFile, path: Path, stage: Path
) -> None:
    """Of the first segment's four super-blocks one is there: the others are read alone, though they are most of it."""
    stage.write_bytes(path.read_bytes()[: 8 * PAGE_BYTES])
    plan = plan_fetch(stored, archive.store, stage)
    result = fetch_file(stored, archive.store, stage)
    whole = sum(segment.stored_bytes for segment in stored.segments)
    assert result.reused_pages == 8
    assert result.read_bytes < whole - stored.segments[0].stored_bytes / 5
    assert abs(plan.fetch_bytes - result.read_bytes) < whole / 50
    assert stage.read_bytes() == path.read_bytes()


def test_a_fetch_that_fails_at_any_step_goes_on(
    archive: DatabaseArchive, stored: StoredFile, path: Path, stage: Path
) -> None:
    for number in range(1, 100):
        steps.arm("fail", number)
        try:
            fetch_file(stored, archive.store, stage)
            break
        except InjectedFault:
            steps.disarm()
    steps.disarm()
    assert number > 3
    assert stage.read_bytes() == path.read_bytes()


def test_what_is_here_is_not_written_again_where_a_segment_is_read_whole(
    archive: DatabaseArchive, stored: StoredFile, path: Path, stage: Path
) -> None:
    """Of every second super-block a page is missing: that is read in one stream, and only that is written."""
    block_bytes = stored.block_pages * PAGE_BYTES
    staged = bytearray(path.read_bytes())
    for start in range(0, len(staged), 2 * block_bytes):
        staged[start : start + PAGE_BYTES] = os.urandom(PAGE_BYTES)
    stage.write_bytes(staged)
    here = sum(len(staged[start : start + block_bytes]) for start in range(block_bytes, len(staged), 2 * block_bytes))
    result = fetch_file(stored, archive.store, stage)
    assert result.reused_pages == here // PAGE_BYTES
    assert result.reused_pages + result.fetched_pages == PAGES
    assert stage.read_bytes() == path.read_bytes()


def test_a_page_that_only_looks_the_same_is_found_out(
    archive: DatabaseArchive, stored: StoredFile, path: Path, stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if another page had the archived one's hash: BLAKE3 of the whole notices, and everything is fetched."""
    wrong = bytearray(path.read_bytes())
    wrong[5 * PAGE_BYTES : 6 * PAGE_BYTES] = os.urandom(PAGE_BYTES)
    stage.write_bytes(wrong)
    monkeypatch.setattr(
        "backupd.pipeline.stage.Local.look",
        lambda self, block, _: (self._bytes(block), np.ones(block.page_count, dtype=np.bool_)),
    )
    result = fetch_file(stored, archive.store, stage)
    assert result.fetched_pages == PAGES
    assert stage.read_bytes() == path.read_bytes()


def test_a_wrong_whole_is_damage(archive: DatabaseArchive, stored: StoredFile, stage: Path) -> None:
    wrong = StoredFile(**{**{name: getattr(stored, name) for name in stored.__dataclass_fields__}, "blake3": "00" * 32})
    with pytest.raises(DamageFound, match=stored.map.name):
        fetch_file(wrong, archive.store, stage)


def test_a_full_disk_on_the_stage(
    archive: DatabaseArchive, stored: StoredFile, stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NotHealthy) as caught:
        fetch_file(stored, archive.store, stage)
    assert "disk is full" in caught.value.because
    monkeypatch.undo()


def test_an_archive_that_goes_away_is_not_damage(
    archive: DatabaseArchive, stored: StoredFile, path: Path, stage: Path
) -> None:
    gone = FailingStore(archive.store, lambda verb, name: verb == "read" and name.endswith("000002"))
    with pytest.raises(ArchiveUnreachable):
        fetch_file(stored, gone, stage)
    fetch_file(stored, archive.store, stage)
    assert stage.read_bytes() == path.read_bytes()


def test_a_source_that_is_not_what_it_said(archive: DatabaseArchive, path: Path) -> None:
    backup = archive.begin(BackupType.FULL, parent=None)
    source = FileSource(path)
    os.truncate(path, 10 * PAGE_BYTES)
    with pytest.raises(NotHealthy, match="shorter"):
        store_file(source, backup)
    source.size_bytes += 1
    with pytest.raises(NotHealthy, match="whole pages"):
        store_file(source, backup)
    path.unlink()
    source.size_bytes -= 1
    with pytest.raises(NotHealthy, match="cannot read"):
        store_file(source, backup)


def test_bad_pages_end_the_storing_and_not_the_checking(archive: DatabaseArchive, path: Path) -> None:
    expected = hashes_of(path)
    expected[[3, 150, PAGES - 1]] += np.uint64(1)
    backup = archive.begin(BackupType.FULL, parent=None)
    result = store_file(FileSource(path, expected=expected), backup)
    assert (result.file, result.bad_pages, result.bad_page_count) == (None, (3, 150, PAGES - 1), 3)
    assert result.checked_pages == PAGES
    assert not list(archive.store.list(f"db/{archive.dbid}/data"))


def test_holes_stay_holes(archive: DatabaseArchive, tmp_path: Path) -> None:
    path = tmp_path / "sparse.db"
    with path.open("wb") as file:
        file.truncate(PAGES * PAGE_BYTES)
        file.seek(40 * PAGE_BYTES)
        file.write(os.urandom(3 * PAGE_BYTES))
        file.seek(PAGES * PAGE_BYTES - 1)
        file.write(b"x")
    backup = archive.begin(BackupType.FULL, parent=None)
    stored = store_file(FileSource(path), backup).file
    assert stored is not None
    stage = tmp_path / "stage"
    fetch_file(stored, archive.store, stage)
    assert stage.read_bytes() == path.read_bytes()
    assert stage.stat().st_blocks * 512 <= 8 * PAGE_BYTES
    # What an earlier try left is not taken for a hole.
    stage.write_bytes(os.urandom(PAGES * PAGE_BYTES))
    fetch_file(stored, archive.store, stage)
    assert stage.read_bytes() == path.read_bytes()


def test_a_page_that_only_has_the_right_hash_is_overwritten_with_zeros(
    archive: DatabaseArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collision, played: the live file's page is taken for the zeros that the archive has, and found out."""
    path = tmp_path / "zeros.db"
    first = os.urandom(PAGE_BYTES)
    path.write_bytes(first + bytes((PAGES - 1) * PAGE_BYTES))
    backup = archive.begin(BackupType.FULL, parent=None)
    stored = store_file(FileSource(path), backup).file
    assert stored is not None
    live = tmp_path / "live.db"
    live.write_bytes(first + b"wrong".ljust(PAGE_BYTES, b"\0") + bytes((PAGES - 2) * PAGE_BYTES))

    def colliding(data: bytes, page_bytes: int) -> np.ndarray:
        return page_hashes(data.replace(b"wrong", bytes(5)), page_bytes)

    monkeypatch.setattr("backupd.pipeline.stage.page_hashes", colliding)
    stage = tmp_path / "stage"
    fetch_file(stored, archive.store, stage, live)
    assert stage.read_bytes() == path.read_bytes()


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """512 MiB through store, proof, fetch and verify, most of it holes: below 60 MB on top of the imports."""
    path = tmp_path / "big.db"
    with path.open("wb") as file:
        file.truncate(512 << 20)
        for place in range(0, 512 << 20, 4 << 20):
            file.seek(place)
            file.write(os.urandom(1 << 20))
    program = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        from backupd.archive.local import LocalStore
        from backupd.archive.verify import Level, verify_database
        from backupd.pipeline.fetch import fetch_file
        from tests.archive_builders import open_archive, take_full
        where = Path(sys.argv[1])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        archive = open_archive(LocalStore.prepare(where / "archive"))
        full = take_full(archive, where / "big.db", 0)
        fetch_file(full.record.files[0], archive.store, where / "stage")
        assert verify_database(archive, Level.DATA).sound
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, cwd=root
    )
    assert int(done.stdout) < 60_000, "kilobytes"
