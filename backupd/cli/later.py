"""The refusal of what is designed and not built yet."""

from __future__ import annotations

from backupd.errors import UsageProblem


def not_yet(what: str, *, because: str, instead: str) -> UsageProblem:
    """Three lines that say that it comes in a later version, and what helps until then."""
    return UsageProblem(f"{what} comes in a later version", because=because, next_step=instead)
