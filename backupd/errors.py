"""Everything that can go wrong, why, and what to do next.

Every failure that a person can cause, or that the world can cause, is a
``BackupdError`` and is shown as three lines without a traceback::

    error: the problem
    because: the fact
    next: the command or change that helps

Anything else that reaches the top is a bug and is shown with its traceback
(exit status 1).  The family and its exit statuses (design: command line)::

    BackupdError
    |-- UsageProblem        2   the command's words are off
    |-- ConfigInvalid       3   the service config or a policy is invalid
    |   `-- KeyMissing      3   no key at hand decrypts what must be read
    |-- Refused             4   a safety rule says no
    |   `-- KeptByLock      4   the store does not let it be deleted now
    |-- NotFound            5   the named thing does not exist
    |   `-- ObjectMissing   5   an object of the archive does not exist
    |-- DamageFound         6   bytes are not what they were
    |-- NotHealthy          7   a copy or an engine is not fit for this
    |   |-- FreezeBroken    7   replay resumed before the snapshot was whole
    |   `-- InjectedFault   7   a test made this step fail
    |-- ArchiveUnreachable  8   the archive cannot be read or written now
    |-- Busy                9   another run holds the lease
    |   `-- ObjectExists    9   a write-once object is there already
    `-- Interrupted       130   a person or a signal stopped it
"""

from __future__ import annotations

from typing import Any, ClassVar


class BackupdError(Exception):
    """A failure with its reason and its remedy.

    Args:
        problem: what did not work, one line, lower case, no full stop.
        because: the fact that made it so, one line.
        next_step: the command or change that helps, one line.
        details: machine-readable facts, shown by ``--json``.
    """

    exit_status: ClassVar[int] = 7

    def __init__(self, problem: str, *, because: str, next_step: str, **details: Any) -> None:
        super().__init__(problem)
        self.problem = problem
        self.because = because
        self.next_step = next_step
        self.details = details

    def lines(self) -> list[str]:
        """The three lines that a person sees."""
        return [
            f"error: {self.problem}",
            f"because: {self.because}",
            f"next: {self.next_step}",
        ]

    def __str__(self) -> str:
        return f"{self.problem} (because: {self.because}; next: {self.next_step})"


class UsageProblem(BackupdError):
    """The command's words are off."""

    exit_status = 2


class ConfigInvalid(BackupdError):
    """The service config or a policy file cannot be used as it stands."""

    exit_status = 3


class KeyMissing(ConfigInvalid):
    """What must be read is encrypted, and none of the keys at hand decrypts it."""


class Refused(BackupdError):
    """A safety rule says no; nothing was changed."""

    exit_status = 4


class KeptByLock(Refused):
    """The store does not let an object be deleted now: it is locked, or we may not delete. Later is soon enough."""


class NotFound(BackupdError):
    """The named database, backup, file or point in time does not exist."""

    exit_status = 5


class ObjectMissing(NotFound):
    """An object of the archive does not exist."""


class DamageFound(BackupdError):
    """Bytes are not what they were when they were written."""

    exit_status = 6


class NotHealthy(BackupdError):
    """A copy, its log or its engine is not fit for what was asked."""

    exit_status = 7


class FreezeBroken(NotHealthy):
    """Replay resumed before the snapshot was whole; the snapshot is worthless."""


class InjectedFault(NotHealthy):
    """A test asked for this step to fail."""


class ArchiveUnreachable(BackupdError):
    """The archive cannot be read or written now (down, full, not permitted)."""

    exit_status = 8


class Busy(BackupdError):
    """Another run or another service holds the lease."""

    exit_status = 9


class ObjectExists(Busy):
    """A write-once object of that name is there already."""


class Interrupted(BackupdError):
    """A person or a signal stopped the work."""

    exit_status = 130
