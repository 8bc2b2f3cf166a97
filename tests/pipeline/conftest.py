"""Small super-blocks and segments, so that a small file has several of each."""

from __future__ import annotations

import pytest

from backupd.pipeline import layout


@pytest.fixture(autouse=True)
def small_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SUPER_BLOCK_BYTES", 1 << 15)
    monkeypatch.setattr(layout, "SEGMENT_BYTES", 1 << 17)
