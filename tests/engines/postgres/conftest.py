"""Real pairs for the PostgreSQL engine's tests: one that tests share, and a factory for private ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backupd.demo.postgres_servers import PgPair
from tests.pg_pairs import PairFactory, a_pair, pair_factory


@pytest.fixture(scope="session")
def pg_pair() -> Iterator[PgPair]:
    """A pair that many tests share: write what you like, but leave roles, settings and slots as they were."""
    with a_pair() as pair:
        yield pair


@pytest.fixture
def make_pair() -> Iterator[PairFactory]:
    """``make_pair(major=None, **words of PgPair.start)``: private pairs, which end with the test."""
    with pair_factory() as start:
        yield start
