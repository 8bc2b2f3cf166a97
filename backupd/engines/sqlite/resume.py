"""Where capture goes on after a stop: one pure decision (sqlite.md P0)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ResumeKind(StrEnum):
    """What the capture process does first."""

    GO_ON = "go on"  # the log was only appended to
    GO_ON_AFTER_RESTART = "go on after restart"  # the old generation ended exactly where we were
    DELTA = "delta"  # unknown what was missed: compare every page
    NEW_HISTORY = "new history"  # another file, or restored: a new history, compared page by page
    FULL_SEED = "full seed"  # nothing to compare with


@dataclass(frozen=True, slots=True)
class FrameTrace:
    """What lies in the ``-wal`` at one frame now: its salts and its cumulative sums."""

    salts: tuple[int, int]
    sums: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ResumeFacts:
    """All that the decision looks at.

    ``last_*``: the end of the newest closed log.  ``index_*``: the wal-index now.
    ``trace``: what lies at frame ``last_frame`` now, None when the file is too
    short.  ``next_chains``: whether the frame after it continues the old sums;
    None when the file ends there.
    """

    has_log: bool
    has_map: bool
    same_file: bool
    same_page_size: bool
    new_history_because: str
    last_salts: tuple[int, int]
    last_frame: int
    last_sums: tuple[int, int]
    index_salts: tuple[int, int]
    index_max_frame: int
    trace: FrameTrace | None
    next_chains: bool | None


@dataclass(frozen=True, slots=True)
class Resume:
    """The answer and its reason."""

    kind: ResumeKind
    because: str


def judge_resume(facts: ResumeFacts) -> Resume:
    """Decide by the facts alone; any doubt is a delta, never a silent gap."""
    if not facts.has_log:
        return Resume(ResumeKind.FULL_SEED, "no log was ever cut from this file")
    if not facts.same_page_size:
        return Resume(ResumeKind.FULL_SEED, "the page size has changed")
    if not facts.has_map:
        return Resume(ResumeKind.FULL_SEED, "the page map of what was shipped is lost")
    if facts.new_history_because:
        return Resume(ResumeKind.NEW_HISTORY, facts.new_history_because)
    if not facts.same_file:
        return Resume(ResumeKind.NEW_HISTORY, "the database file was replaced by another one")
    if facts.index_salts == facts.last_salts:
        return _same_generation(facts)
    return _other_generation(facts)


def _same_generation(facts: ResumeFacts) -> Resume:
    if facts.index_max_frame < facts.last_frame:
        return Resume(ResumeKind.DELTA, "the log is shorter than what was shipped from it (power cut?)")
    if facts.last_salts == (0, 0):
        # A wal-index has zero salts until the first frame (sqlite.md fact 4): zeros say nothing about the past.
        return Resume(ResumeKind.DELTA, "the log was empty when capture stopped, which proves nothing")
    if facts.last_frame == 0:
        return Resume(ResumeKind.GO_ON, "nothing of this generation was shipped yet")
    expected = FrameTrace(facts.last_salts, facts.last_sums)
    if facts.trace != expected:
        return Resume(ResumeKind.DELTA, "the frames that were shipped are not the ones in the log any more")
    return Resume(ResumeKind.GO_ON, "the log was only appended to")


def _other_generation(facts: ResumeFacts) -> Resume:
    one_restart = facts.index_salts[0] == (facts.last_salts[0] + 1) & 0xFFFFFFFF
    untouched = facts.trace == FrameTrace(facts.last_salts, facts.last_sums) and facts.last_frame > 0
    if one_restart and untouched and facts.next_chains is False:
        return Resume(ResumeKind.GO_ON_AFTER_RESTART, "the log was restarted once, exactly after what was shipped")
    return Resume(ResumeKind.DELTA, "the log was restarted while nobody watched it")
