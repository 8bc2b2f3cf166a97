"""A passive is made anew from where a person says, and from the archive only when that can be."""

from __future__ import annotations

import pytest

from backupd.errors import Refused
from backupd.runs import copies
from tests.fakes import FakeWriter
from tests.runs.world import World


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each seed that was asked of the active."""
    calls: list[str] = []
    real = FakeWriter.seed

    def seed(writer: FakeWriter) -> None:
        calls.append("seed")
        real(writer)

    monkeypatch.setattr(FakeWriter, "seed", seed)
    return calls


def test_from_the_archive_is_refused_where_replication_is_the_only_way(world: World, asked: list[str]) -> None:
    with pytest.raises(Refused) as caught:
        copies.seed(world.context(), 0.0, source="archive")
    assert caught.value.exit_status == 4
    assert "made by replication" in caught.value.because
    assert "copy seed orders" in caught.value.next_step
    assert not asked, "nothing was asked of the active"


@pytest.mark.parametrize("source", ["best", "active"])
def test_otherwise_it_is_made_from_the_active(world: World, asked: list[str], source: str) -> None:
    said = copies.seed(world.context(), 5.0, source=source)
    assert asked == ["seed"]
    assert any("is healthy" in sentence for sentence in said)
