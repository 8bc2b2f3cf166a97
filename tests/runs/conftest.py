"""A fresh world for each test of the runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A pair with one commit and an empty archive."""
    made = World(tmp_path / "world")
    made.writer.commit("zero")
    return made
