"""A log file that lies, with the right digest: it is damage, and makes no file and no map without end."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupd.engines.sqlite.logcheck import verify_log
from backupd.engines.sqlite.logfile import LogWriter, delta_frames
from backupd.engines.sqlite.logheader import LogHeader, LogKindCode
from backupd.engines.sqlite.pagemap import PageMap
from backupd.engines.sqlite.restore_stage import RestoreStage
from backupd.errors import DamageFound, NotHealthy

PAGE = 4096
HISTORY = "ab" * 8


def staged(root: Path) -> Path:
    """A database file of two pages."""
    path = root / "app.db"
    path.write_bytes(bytes(PAGE) + b"\1" * PAGE)
    return path


def log_of(root: Path, stage: Path, **lies: Any) -> Path:
    """A log that writes the second page anew, and says something else of itself."""
    honest = PageMap.of_file(stage, PAGE)
    changed = b"\2" * PAGE
    writer = LogWriter(root / "log", 1)
    writer.append(delta_frames([2], changed, commit_pages=2))
    writer.mark(1, 2, 1_700_000_000_000_000)
    header = LogHeader(
        kind=LogKindCode.DELTA,
        page_bytes=PAGE,
        history=HISTORY,
        number=1,
        epoch=1,
        start_offset=0,
        end_offset=1,
        pages_before=2,
        pages_after=2,
        checksum_before=honest.checksum,
        checksum_after=_after(stage, changed),
    )
    return writer.finish(replace(header, **lies)).path


def _after(stage: Path, changed: bytes) -> int:
    beside = stage.with_name("after.db")
    beside.write_bytes(stage.read_bytes()[:PAGE] + changed)
    return PageMap.of_file(beside, PAGE).checksum


def apply(stage: Path, log: Path) -> None:
    restored = RestoreStage(stage)
    restored.read_log(log)
    restored.apply_log(log, until=None, at=None)


def test_an_honest_log_is_applied(tmp_path: Path) -> None:
    stage = staged(tmp_path)
    apply(stage, log_of(tmp_path, stage))
    assert stage.read_bytes()[PAGE:] == b"\2" * PAGE


@pytest.mark.parametrize(
    "lies",
    [
        {"pages_before": 2**32 - 1},
        {"pages_after": 2**32 - 1},
        {"pages_before": 2**32 - 1, "pages_after": 2**32 - 1},
        {"first_commit_us": 2**62},
        {"last_commit_us": -(2**62)},
        {"end_offset": 2**40},
        {"checksum_before": 7},
        {"page_bytes": 65536},
    ],
)
def test_a_lie_is_damage_and_the_file_stays_small(tmp_path: Path, lies: dict[str, Any]) -> None:
    stage = staged(tmp_path)
    with pytest.raises(DamageFound):
        apply(stage, log_of(tmp_path, stage, **lies))
    assert stage.stat().st_size == 2 * PAGE


def test_a_record_that_would_be_read_whole_is_small(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log", 1)
    for _ in range(17):
        writer.append(bytes(1 << 20))
    writer.mark(1, 2, 1)
    header = LogHeader(LogKindCode.CONTROL, PAGE, HISTORY, 1, 1, 0, 1, 2, 0, pages_before=2)
    with pytest.raises(DamageFound, match="damaged") as caught:
        verify_log(writer.finish(header).path)
    assert "its record has" in caught.value.because


FIELDS = ("kind", "number", "epoch", "start_offset", "end_offset", "pages_before", "pages_after", "checksum_before")
MORE = ("checksum_after", "frame_first", "frame_last", "first_commit_us", "last_commit_us", "parent_offset")
LIES = st.dictionaries(st.sampled_from((*FIELDS, *MORE)), st.integers(0, 2**32 - 1), min_size=1, max_size=3)


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(lies=LIES)
def test_whatever_a_log_says_of_itself_the_file_stays_small(
    tmp_path_factory: pytest.TempPathFactory, lies: dict[str, int]
) -> None:
    root = tmp_path_factory.mktemp("log")
    stage = staged(root)
    with suppress(DamageFound, NotHealthy):
        apply(stage, log_of(root, stage, **lies))
    assert stage.stat().st_size <= 3 * PAGE
