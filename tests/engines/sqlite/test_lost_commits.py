"""Commits after a place of the log are counted from the log itself, or not at all when it does not go back so far."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from backupd.engines.sqlite.logdir import LogDir
from backupd.engines.sqlite.logfile import LogWriter, delta_frames
from backupd.engines.sqlite.logheader import LogHeader, LogKindCode
from backupd.engines.sqlite.lost_commits import commits_after
from backupd.model.position import Position

PAGE = 4096
HISTORY = "cd" * 8
SECOND = 1_000_000
START = 1_700_000_000 * SECOND


def write(root: Path, numbers: range, commits: int = 3) -> None:
    """Log files of ``commits`` commits of one page each; commit ``n`` of all is seen ``n`` seconds after the start."""
    for number in numbers:
        writer = LogWriter(LogDir(root).history(HISTORY).path_of(number).parent, number)
        first = (number - 1) * commits
        for commit in range(commits):
            writer.append(delta_frames([1], bytes(PAGE), commit_pages=1))
            writer.mark(commit + 1, 1, START + (first + commit + 1) * SECOND)
        writer.finish(
            LogHeader(LogKindCode.DELTA, PAGE, HISTORY, number, 1, first, first + commits, 1, 0, pages_before=1)
        )


def count(root: Path, offset: int, at: datetime | None = None) -> int | None:
    return commits_after(root, Position(HISTORY, offset), at)


def test_every_commit_after_the_place_counts_once(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    assert [count(tmp_path, offset) for offset in (0, 1, 3, 4, 8)] == [9, 8, 6, 5, 1]


def test_to_a_time_only_later_commits_count(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    at = datetime.fromtimestamp(START / SECOND + 4.5, UTC)
    assert count(tmp_path, 3, at) == 5
    assert count(tmp_path, 0, at) == 5


def test_log_that_does_not_go_back_so_far_says_nothing(tmp_path: Path) -> None:
    write(tmp_path, range(2, 4))
    assert count(tmp_path, 0) is None
    assert count(tmp_path, 3) == 6
    assert count(tmp_path, 9) is None
    assert count(tmp_path / "none", 0) is None
