"""Which camera to use: the first that works here, with each one's reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backupd.errors import NotHealthy
from backupd.ports import SnapshotProvider
from backupd.providers.btrfs import BtrfsProvider
from backupd.providers.plain_copy import PlainCopyProvider
from backupd.providers.reflink import ReflinkProvider


@dataclass(frozen=True, slots=True)
class Choice:
    """The provider that was chosen, why it was, and then why each better one was not."""

    provider: SnapshotProvider
    reasons: tuple[str, ...]


def all_providers() -> tuple[SnapshotProvider, ...]:
    """Every provider, best first: one instant before shared blocks before copied bytes."""
    return (BtrfsProvider(), ReflinkProvider(), PlainCopyProvider())


def choose_provider(providers: Sequence[SnapshotProvider], directory: Path) -> Choice:
    """The first of ``providers`` that can snapshot ``directory``, tried for real.

    Raises:
        NotHealthy: none can; the reason of each is told.
    """
    others: list[str] = []
    for provider in providers:
        answer = provider.suits(directory)
        if answer.suits:
            return Choice(provider, (answer.because, *others))
        others.append(f"{provider.name}: {answer.because}")
    raise NotHealthy(
        f"cannot snapshot {directory}",
        because="; ".join(others) or "no provider was offered",
        next_step=f"make {directory} writable for this user, with some free space",
    )
