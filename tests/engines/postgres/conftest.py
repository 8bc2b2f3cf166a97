"""Real pairs for the PostgreSQL engine's tests: one that tests share, and a factory for private ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.demo.postgres_binaries import PREFERRED
from backupd.demo.postgres_servers import PgPair
from tests.pg_pairs import PairFactory, a_pair, pair_factory, pg_versions

_FAST = next((each for each in PREFERRED if each in pg_versions()), 0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fast suite tries the version that the demo likes best; the others are for ``make test-all``."""
    here = Path(__file__).parent
    for item in items:
        parameters = getattr(item, "callspec", None)
        major = parameters.params.get("major") if parameters is not None and here in item.path.parents else None
        if isinstance(major, int) and major not in {0, _FAST}:
            item.add_marker(pytest.mark.slow)


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
