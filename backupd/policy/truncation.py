"""The table [truncation]: whether and when log leaves the copies, and how much of it they may hold."""

from __future__ import annotations

from pydantic import Field

from backupd.policy.sections import Section
from backupd.policy.units import Bytes, Seconds


class TruncationOptions(Section):
    """Whether and when log leaves the copies."""

    enabled: bool = Field(default=True, description="Whether log that the archive holds is removed from the copies.")
    held_log_bytes_warn: Bytes = Field(
        default=2**30,
        ge=0,
        description="An alarm names the blocker when a copy holds this much log (size); "
        "held_log_budget, when it is given, is used instead.",
    )
    held_log_budget: Bytes | None = Field(
        default=None,
        ge=0,
        description="How much log a copy may hold: a warning at 70 %, critical at 85 %; 0: no guard (size). "
        "Without it, it is so much that held_log_bytes_warn is 70 %.",
    )
    evidence_age_seconds_max: Seconds = Field(
        default=60.0, gt=0, le=3600, description="How old the copies' answers may be when log is removed (duration)."
    )
