"""The first provider that works is chosen, and each answer is told."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from backupd.errors import NotHealthy
from backupd.ports import ProviderFeature, Snapshot, Suitability
from backupd.providers.choose import all_providers, choose_provider


class Answering:
    """A provider that only answers."""

    features: frozenset[ProviderFeature] = frozenset()

    def __init__(self, name: str, answer: Suitability) -> None:
        self.name = name
        self.answer = answer
        self.asked = 0

    def suits(self, directory: Path) -> Suitability:
        self.asked += 1
        return self.answer

    def take(self, directory: Path, names: Sequence[str], label: str) -> Snapshot:
        raise NotImplementedError

    def discard(self, snapshot: Snapshot) -> None:
        raise NotImplementedError

    def leftovers(self, directory: Path) -> Sequence[Snapshot]:
        raise NotImplementedError


NO, YES = Suitability(False, "too old"), Suitability(True, "works")


def test_the_first_that_suits_is_taken_and_no_later_one_is_asked() -> None:
    first, second, third = Answering("a", NO), Answering("b", YES), Answering("c", YES)
    choice = choose_provider([first, second, third], Path("/data"))
    assert choice.provider is second
    assert choice.reasons == ("works", "a: too old")
    assert third.asked == 0


def test_none_is_told_with_every_reason() -> None:
    with pytest.raises(NotHealthy) as caught:
        choose_provider([Answering("a", NO), Answering("b", NO)], Path("/data"))
    assert caught.value.because == "a: too old; b: too old"
    assert len(caught.value.lines()) == 3


def test_any_disk_has_one(tmp_path: Path) -> None:
    choice = choose_provider(all_providers(), tmp_path)
    assert choice.provider.name in {"btrfs", "reflink", "plain-copy"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
@pytest.mark.root
def test_real_filesystems_choose_what_they_can(btrfs_mount: Path, xfs_mount: Path) -> None:
    directory = btrfs_mount / "chosen"
    subprocess.run(["btrfs", "-q", "subvolume", "create", str(directory)], check=True)
    inside = directory / "inside"
    inside.mkdir()
    on_xfs = xfs_mount / "chosen"
    on_xfs.mkdir()
    assert choose_provider(all_providers(), directory).provider.name == "btrfs"
    assert choose_provider(all_providers(), inside).provider.name == "reflink"
    assert choose_provider(all_providers(), on_xfs).provider.name == "reflink"
