"""Timelines: what a history file says, and which places of an older timeline are places of the current one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.engines.postgres.timelines import (
    TimelineStory,
    ancestry_of,
    history_at,
    older_than,
    parse_history,
    segment_history,
    story_told_by,
    timeline_story,
)
from backupd.errors import DamageFound, NotHealthy
from backupd.model.position import Position, rebase

TEXT = '1\t0/3000148\tno recovery target specified\n\n# by hand\n2\t0/5000000\tat restore point "# x"\n'
ANCESTRY = (Position("1", 0x3000148), Position("2", 0x5000000))
MIB = 1 << 20
S = 16 * MIB


def test_a_history_file_names_the_ancestors_oldest_first() -> None:
    assert parse_history(TEXT) == ANCESTRY


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "one\t0/1",
        "1\tnowhere\tx",
        "2\t0/5000000\tx\n1\t0/6000000\tx",
        "0\t0/1\tx",
    ],
)
def test_what_is_no_history_is_damage(text: str) -> None:
    with pytest.raises(DamageFound, match=r"0000000A\.history"):
        parse_history(text, "0000000A.history")


def test_a_timeline_that_ended_before_it_began_is_passed_over() -> None:
    found = parse_history("1\t0/5000000\tx\n\n2\t0/4000000\tbefore 2026-11-22\n")
    assert found == (Position("1", 0x4000000), Position("2", 0x4000000))
    assert history_at(0x3FFFFFF, "3", found) == "1"
    assert history_at(0x4000000, "3", found) == "3"
    assert rebase(Position("1", 0x4800000), "3", found) is None


def write(directory: Path, name: str, text: str) -> Path:
    (directory / "pg_wal").mkdir(exist_ok=True)
    (directory / "pg_wal" / name).write_text(text)
    return directory


def test_a_timeline_tells_where_it_came_from(tmp_path: Path) -> None:
    data = write(tmp_path, "00000003.history", TEXT)
    story = timeline_story(3, data)
    assert (story.text, story.ancestry) == (TEXT, ANCESTRY)
    assert ancestry_of(1, data) == ()


def test_without_its_history_file_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(NotHealthy, match="timeline 2"):
        timeline_story(2, tmp_path)


@pytest.mark.parametrize("text", ["", "3\t0/3000148\tx\n"])
def test_a_history_file_that_is_not_of_this_timeline_is_damage(tmp_path: Path, text: str) -> None:
    with pytest.raises(DamageFound):
        timeline_story(3, write(tmp_path, "00000003.history", text))


def test_a_place_of_an_ancestor_counts_up_to_where_it_ended() -> None:
    assert rebase(Position("3", 9), "3", ANCESTRY) == Position("3", 9)
    assert rebase(Position("1", 0x3000148), "3", ANCESTRY) == Position("3", 0x3000148)
    assert rebase(Position("1", 0x3000149), "3", ANCESTRY) is None
    assert rebase(Position("2", 0x5000000), "3", ANCESTRY) == Position("3", 0x5000000)
    assert rebase(Position("4", 1), "3", ANCESTRY) is None


def test_each_byte_was_written_by_one_timeline() -> None:
    assert [history_at(x, "3", ANCESTRY) for x in (0, 0x3000147, 0x3000148, 0x4FFFFFF, 0x5000000)] == list("11223")
    assert older_than("2", ANCESTRY) == ANCESTRY[:1]


def test_of_a_segment_that_two_wrote_into_the_younger_ones_file_is_taken() -> None:
    # Timeline 2 began inside segment 3, timeline 3 right at the start of segment 5.
    assert [segment_history(n, S, "3", ANCESTRY) for n in (2, 3, 4, 5, 6)] == list("12233")


@given(st.lists(st.integers(0, 64 * S), max_size=5).map(sorted), st.integers(0, 64 * S))
def test_every_place_of_the_lineage_keeps_its_offset(ends: list[int], offset: int) -> None:
    ancestry = tuple(Position(str(n + 1), end) for n, end in enumerate(ends))
    now = str(len(ends) + 1)
    owner = history_at(offset, now, ancestry)
    assert rebase(Position(owner, offset), now, ancestry) == Position(now, offset)
    # A file that ends at a place is of the timeline that wrote the last byte before it.
    assert int(segment_history(offset // S, S, now, ancestry)) >= int(owner)


def test_a_later_timeline_tells_an_older_ones_story_to_the_byte() -> None:
    second = "1\t0/5000000\tno recovery target specified\n"
    third = f"{second}\n2\t0/9000000\tno recovery target specified\n"
    fourth = f"{third}\n3\t0/A0000B8\tbefore 2026-11-22\n"
    story = TimelineStory(4, fourth, parse_history(fourth))
    for timeline, text in ((3, third), (2, second), (1, "")):
        assert story_told_by(story, timeline) == TimelineStory(timeline, text, parse_history(text))
    assert story_told_by(story, 4) is None
    assert story_told_by(TimelineStory(5, second, parse_history(second)), 2) is None
