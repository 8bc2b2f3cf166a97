"""The port of a scratch place: a restored state that may be opened, asked, and thrown away with all that runs there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from backupd.ports.target import RestoreTarget


@dataclass(frozen=True, slots=True)
class EngineLook:
    """What an engine was asked about a restored state, what it found wrong, and what could not be asked."""

    asked: tuple[str, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...] = ()


class OpenedScratch(Protocol):
    """A restored state that is open, for us alone; it reaches nobody and nobody reaches it."""

    def look(self) -> EngineLook:
        """The engine's own strongest checks. Raises NotHealthy: it does not answer."""
        ...

    def ask(self, sql: str, *, dbname: str | None, seconds_max: float) -> Sequence[Sequence[object]]:
        """The first two rows of a question that can only read.

        Args:
            sql: one statement.
            dbname: the database of a cluster; None: its usual one.
            seconds_max: how long it may take.

        Raises:
            NotHealthy, ConfigInvalid: the engine does not answer, or not that.
        """
        ...


@runtime_checkable
class ScratchTarget(RestoreTarget, Protocol):
    """What a directory may do beyond ``RestoreTarget``; a copy of the pair never is one."""

    def opened(self) -> AbstractContextManager[OpenedScratch]:
        """After ``activate``: start what was restored; at the end it is stopped.

        Raises:
            NotHealthy: it does not start, with what it said.
        """
        ...

    def discard(self) -> None:
        """Stop what runs there and remove the directory, whatever is there; may be repeated. Raises NotHealthy."""
        ...
