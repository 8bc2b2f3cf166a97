"""Small super-blocks and segments, so that a small file has several of each; and an archive in memory."""

from __future__ import annotations

import pytest

from backupd.archive.database import DatabaseArchive
from backupd.engines.file_reader import FileReader
from backupd.pipeline import layout
from tests.archive_builders import ObedientClock, open_archive
from tests.fakes_store import MemoryStore


@pytest.fixture(autouse=True)
def small_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileReader, "block_bytes", 1 << 15)
    monkeypatch.setattr(layout, "SEGMENT_BYTES", 1 << 17)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> ObedientClock:
    return ObedientClock()


@pytest.fixture
def archive(store: MemoryStore, clock: ObedientClock) -> DatabaseArchive:
    return open_archive(store, clock)
