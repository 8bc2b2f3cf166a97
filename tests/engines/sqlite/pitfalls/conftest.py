"""A world for each test, and the end of all its processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.sqlite.pitfalls.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A pair whose steps the test decides."""
    made = World(tmp_path)
    yield made
    made.close()
