"""Small super-blocks and segments, so that a small file has several of each."""

from __future__ import annotations

import pytest

from backupd.engines.file_reader import FileReader
from backupd.pipeline import layout


@pytest.fixture(autouse=True)
def small_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileReader, "block_bytes", 1 << 15)
    monkeypatch.setattr(layout, "SEGMENT_BYTES", 1 << 17)
