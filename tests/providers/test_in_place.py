"""What copies nothing removes nothing: the copy's own files are never in danger."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backupd import steps
from backupd.errors import NotHealthy
from backupd.ports import ProviderFeature, Snapshot, SnapshotProvider
from backupd.providers.in_place import LiveProvider, PausedProvider
from tests.contracts.provider_contract import InPlaceContract, listing


class TestLive(InPlaceContract):
    @pytest.fixture
    def provider(self) -> SnapshotProvider:
        return LiveProvider()

    def test_replay_runs_on_and_a_file_may_go_away(self, provider: SnapshotProvider, copy: Path) -> None:
        assert provider.features == {ProviderFeature.IN_PLACE, ProviderFeature.MOVING}
        provider.discard(provider.take(copy, ["app.db", "gone.db"], "L1"))


class TestPaused(InPlaceContract):
    @pytest.fixture
    def provider(self) -> SnapshotProvider:
        return PausedProvider()

    def test_a_missing_file_is_told(self, provider: SnapshotProvider, copy: Path) -> None:
        assert provider.features == {ProviderFeature.IN_PLACE}
        with pytest.raises(NotHealthy, match=r"gone\.db and 1 more") as caught:
            provider.take(copy, ["app.db", "gone.db", "also.db"], "L1")
        assert len(caught.value.lines()) == 3


@pytest.mark.parametrize("provider", [LiveProvider(), PausedProvider()], ids=["live", "paused"])
def test_nothing_that_removes_is_even_reached(
    provider: SnapshotProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every way that Python has to remove a file is made to fail: discard uses none."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was about to be removed")

    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "1").write_bytes(b"data")
    snapshot = provider.take(tmp_path, ["base/1"], "L1")
    before = listing(tmp_path)
    with monkeypatch.context() as patched:
        for name in ("unlink", "remove", "rmdir", "rename", "replace", "removedirs", "truncate", "open"):
            patched.setattr(os, name, refuse)
        patched.setattr("shutil.rmtree", refuse)
        provider.discard(snapshot)
        provider.discard(snapshot)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("provider", [LiveProvider(), PausedProvider()], ids=["live", "paused"])
def test_a_snapshot_of_elsewhere_is_a_bug(provider: SnapshotProvider, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a snapshot"):
        provider.discard(Snapshot("reflink", "L1", tmp_path, tmp_path))
    steps.disarm()
