"""Which camera to use: the first that works here, with each one's reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backupd.errors import NotHealthy
from backupd.ports import SnapshotProvider
from backupd.providers.btrfs import BtrfsProvider
from backupd.providers.command import ExecProvider, SnapshotCommands
from backupd.providers.in_place import LiveProvider, PausedProvider
from backupd.providers.plain_copy import PlainCopyProvider
from backupd.providers.reflink import ReflinkProvider

_BY_NAME_ONLY = {"exec", "paused"}
_CALLED = {"copy": "plain-copy"}  # what the policy calls it


@dataclass(frozen=True, slots=True)
class Choice:
    """The provider that was chosen, why it was, and then why each better one was not."""

    provider: SnapshotProvider
    reasons: tuple[str, ...]


def all_providers(
    engine: str = "sqlite", commands: SnapshotCommands | None = None, state_dir: Path = Path()
) -> tuple[SnapshotProvider, ...]:
    """Every provider that can serve this engine, best first: one instant, shared blocks, copied bytes, no copy at all.

    ``commands`` are the policy's own, with the directory of this database's state.
    """
    if engine == "sqlite":
        return (BtrfsProvider(), ReflinkProvider(), PlainCopyProvider())
    own = (ExecProvider(commands, state_dir),) if commands is not None else ()
    return (BtrfsProvider(), ReflinkProvider(), *own, LiveProvider(), PausedProvider())


def providers_for(
    wanted: str, engine: str = "sqlite", commands: SnapshotCommands | None = None, state_dir: Path = Path()
) -> tuple[SnapshotProvider, ...]:
    """The providers that the policy's word ``wanted`` allows for this engine, best first.

    ``auto`` never takes the administrator's command, nor a pause as long as the reading: both are asked for by name.
    """
    every = all_providers(engine, commands, state_dir)
    if wanted == "auto":
        return tuple(one for one in every if one.name not in _BY_NAME_ONLY)
    return tuple(one for one in every if one.name == _CALLED.get(wanted, wanted))


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
        next_step=f"mend that ({directory} must be writable for this user), or choose another backup.provider",
    )
