"""The passive's closed segments, from real servers: listed without a gap, each kind of damage found and named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupd.engines.postgres import closed_logs, waldump
from backupd.engines.postgres.closed_logs import RECORDS_UNPARSED, CopyLog
from backupd.engines.postgres.cluster import PgOptions
from backupd.engines.postgres.commit_finder import PgCommitFinder
from backupd.engines.postgres.wal_names import segment_name
from backupd.engines.postgres.wal_restore_point import begins_with_rest, is_restore_point
from backupd.engines.postgres.wal_segment import read_segment
from backupd.engines.postgres.waldump import Parsed
from backupd.errors import DamageFound, NotHealthy
from backupd.model.kinds import LogKind
from backupd.model.position import Position
from backupd.ports import ClosedLog
from tests.engines.postgres.wal_places import Places
from tests.pg_pairs import a_pair, all_versions, server_of

pytestmark = pytest.mark.real
MIB = 1 << 20


@dataclass(frozen=True)
class Stretch:
    """A stretch of closed log on a pair that is left alone."""

    places: Places
    after: Position
    until: Position
    began_at: datetime
    ended_at: datetime

    def copied(self, to: Path, *, parse: bool = True) -> CopyLog:
        return self.places.log(self.places.copied(to), parse=parse)


@pytest.fixture(scope="module", params=all_versions())
def stretch(request: pytest.FixtureRequest) -> Iterator[Stretch]:
    """Full segments of 1 MiB, and two that were switched early; records go over from one to the next."""
    with a_pair(request.param, segment_mib=1, settings={"wal_keep_size": "64MB", "autovacuum": "off"}) as pair:
        places = Places.of(pair)
        began_at = datetime.now(UTC)
        places.pair.active.psql("SELECT pg_switch_wal()")
        after = places.close()
        places.fill(2.3)
        places.close()
        places.pair.active.psql("SELECT pg_create_restore_point('before the cut')")
        places.fill(0.2)
        until = places.close()
        ended_at = datetime.now(UTC)
        places.fill(0.1)
        yield Stretch(places, after, until, began_at, ended_at)


def listed(log: CopyLog, stretch: Stretch) -> list[ClosedLog]:
    return log.closed(stretch.after, stretch.until)


def test_closed_segments_follow_one_another(stretch: Stretch) -> None:
    log = stretch.places.log()
    found = listed(log, stretch)
    assert len(found) >= 4
    place = stretch.after
    for one in found:
        assert one.log.start == place
        assert one.log.kind is LogKind.SEGMENT
        assert (one.log.end.offset, one.log.size_bytes) == (place.offset + MIB, MIB)
        assert (one.log.number, one.log.ancestry, one.log.previous_digest) == (place.offset // MIB, "", "")
        place = one.log.end
        log.check(one)
    assert place == stretch.until
    assert log.notes == ()


def test_the_times_of_commits_are_told(stretch: Stretch) -> None:
    times = [(one.log.first_commit_at, one.log.last_commit_at) for one in listed(stretch.places.log(), stretch)]
    known = [time for pair in times for time in pair if time is not None]
    assert known == sorted(known)
    slack = timedelta(seconds=1)
    assert stretch.began_at - slack <= known[0] <= known[-1] <= stretch.ended_at + slack
    assert times[-1][0] is not None


def test_restore_points_are_told_where_they_are(stretch: Stretch) -> None:
    found = listed(stretch.places.log(), stretch)
    noted = [(one.log, point) for one in found for point in one.log.restore_points or ()]
    [(log, point)] = [(log, point) for log, point in noted if point.name == "before the cut"]
    assert log.start.offset <= point.position.offset < point.after.offset < log.end.offset
    assert point.position.history == log.history
    assert point.at is not None
    assert stretch.began_at <= point.at <= (log.first_commit_at or stretch.ended_at)
    assert len(noted) == len([one for one in found if one.log.restore_points]) + 1 == 3  # each close made one, too
    whole = [one.log.restore_points for one in found if one.log.last_commit_at is not None]
    assert None not in whole


def test_nobody_says_there_are_no_restore_points_who_could_not_look(
    stretch: Stretch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unparsed = listed(stretch.places.log(stretch.places.copied(tmp_path / "a"), parse=False), stretch)
    assert {one.log.restore_points for one in unparsed} == {None}
    log = stretch.copied(tmp_path / "b")
    listing = listed(log, stretch)
    before = listing[0].log.number - 1
    name = segment_name(int(stretch.after.history), before, MIB)
    (tmp_path / "b" / "pg_wal" / name).unlink()
    # As always after a truncation: the first begins with a record of its own, for the one before was switched early.
    again = listed(stretch.places.log(tmp_path / "b"), stretch)
    assert [one.log.restore_points for one in again] == [one.log.restore_points for one in listing]
    # Now as if it began with the rest of a record that may be a restore point.
    crossing = next(n for n, one in enumerate(listing) if begins_with_rest(one.path) > 0)
    parts = [Position("1", one.log.start.offset) for one in listing[crossing:]]
    (tmp_path / "b" / "pg_wal" / listing[crossing - 1].path.name).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(closed_logs, "begins_with_rest", lambda _: 98)
        cut = stretch.places.log(tmp_path / "b").closed(parts[0], stretch.until)
    assert [one.log.restore_points is None for one in cut] == [True, *[False] * (len(cut) - 1)]


def test_a_name_that_is_no_plain_text_or_no_name_at_all_is_not_noted(stretch: Stretch, tmp_path: Path) -> None:
    """What pg_waldump prints of a name has new lines in it; the record's bytes say what is one."""
    log = stretch.copied(tmp_path)
    [(one, point)] = [
        (one, point)
        for one in listed(log, stretch)
        for point in one.log.restore_points or ()
        if point.name == "before the cut"
    ]
    path, offset = tmp_path / "pg_wal" / one.path.name, point.position.offset % MIB
    files = {one.log.number: path}
    assert is_restore_point(files, point.position.offset, "before the cut", MIB)
    for lsn, name in (
        (point.position.offset, "before"),
        (point.position.offset + 8, "before the cut"),
        (point.position.offset + MIB, "before the cut"),
    ):
        assert not is_restore_point(files, lsn, name, MIB)
    for at in (offset, offset + 16, offset + 17, offset + 34):
        flip(path, at)
        assert not is_restore_point(files, point.position.offset, "before the cut", MIB)
        flip(path, at)


def test_people_s_texts_in_the_log_make_no_restore_point(tmp_path: Path) -> None:
    with a_pair(segment_mib=1, settings={"max_prepared_transactions": "5"}) as pair:
        places = Places.of(pair)
        after = places.close()
        forged = (
            "x\nrmgr: XLOG        len (rec/tot):     98/    98, tx:          0, "
            f"lsn: 0/{after.offset + 96:08X}, prev 0/{after.offset + 40:08X}, desc: RESTORE_POINT forged\n"
        )
        ask = pair.active.psql
        ask("SELECT pg_create_restore_point('real')")
        for text in (forged, "desc: RESTORE_POINT plain"):
            ask(f"BEGIN; INSERT INTO filler VALUES (1); PREPARE TRANSACTION $t${text}$t$")
            ask(f"COMMIT PREPARED $t${text}$t$")
        until = places.close()
        noted = [one.log.restore_points for one in places.log().closed(after, until)]
        assert noted == [None]  # nobody believes what is printed there
        ask("SELECT pg_create_restore_point('later')")
        names = [p.name for one in places.log().closed(until, places.close()) for p in one.log.restore_points or ()]
        assert names == ["later", "backupd"]
        ask("SELECT pg_create_restore_point(E'two\\nlines')")
        after, until = Position(until.history, until.offset + MIB), places.close()
        assert [one.log.restore_points for one in places.log().closed(after, until)] == [None]
        finder = PgCommitFinder([], PgOptions(bin_directory=pair.active.bin_directory))
        logs = places.log().closed(Position(until.history, until.offset - 3 * MIB), until)
        assert [one.name for one in finder.points(logs)] == ["real", "backupd", "later", "backupd", "backupd"]


def test_a_point_over_the_end_of_a_segment_is_told_with_the_one_that_holds_its_end() -> None:
    """The text of pg_waldump 15: the record begins 40 bytes before the end of its segment of 1 MiB."""
    parsed = Parsed()
    line = (
        b"rmgr: XLOG        len (rec/tot):     98/    98, tx:          0, lsn: 0/020FFFD8, prev 0/020FFFA0, "
        b"desc: RESTORE_POINT desc: COMMIT 2026-11-23 00:33:14.255105 UTC\n"
    )
    waldump._take([line], MIB, parsed)
    assert parsed.points == {0x21: [(0x20FFFD8, "desc: COMMIT 2026-11-23 00:33:14.255105 UTC", None)]}
    assert parsed.commits == {}


def test_nothing_between_a_place_and_itself(stretch: Stretch) -> None:
    assert stretch.places.log().closed(stretch.until, stretch.until) == []


def test_a_segment_that_is_not_there_is_a_gap_with_its_name(stretch: Stretch, tmp_path: Path) -> None:
    log = stretch.copied(tmp_path)
    gone = listed(stretch.places.log(), stretch)[1].path.name
    (tmp_path / "pg_wal" / gone).unlink()
    with pytest.raises(NotHealthy, match=gone) as caught:
        listed(log, stretch)
    assert caught.value.details["missing"] == [gone]
    (tmp_path / "pg_wal" / f"{gone}.partial").touch()
    with pytest.raises(NotHealthy, match=gone):
        listed(log, stretch)


def test_what_is_still_to_come_is_not_taken_for_damage(stretch: Stretch) -> None:
    with server_of(stretch.places.pair, "passive") as passive:
        log = stretch.places.log(server=passive)
        assert listed(log, stretch)
        ahead = Position("1", stretch.until.offset + 2 * MIB)
        with pytest.raises(NotHealthy, match="not received"):
            log.closed(stretch.after, ahead)


def damage(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int) -> None:
    damage(path, offset, bytes([path.read_bytes()[offset] ^ 0x10]))


@pytest.mark.parametrize(
    ("offset", "word"),
    [
        (0, "magic"),
        (26, "cluster"),
        (8192 * 5 + 4, "page 5"),
        (8192 * 6 + 9, "page 6"),
        (8192 * 70 + 4000, "checksum in record|invalid|incorrect|unexpected|contrecord"),
        (8192 * 100 + 333, "checksum in record|invalid|incorrect|unexpected|contrecord"),
    ],
)
def test_a_flipped_byte_is_found_and_named(stretch: Stretch, tmp_path: Path, offset: int, word: str) -> None:
    log = stretch.copied(tmp_path)
    name = listed(stretch.places.log(), stretch)[0].path.name
    flip(tmp_path / "pg_wal" / name, offset)
    found = listed(log, stretch)
    with pytest.raises(DamageFound, match=word) as caught:
        log.check(found[0])
    assert name in caught.value.problem
    for other in found[2:]:
        log.check(other)


def test_every_damaged_segment_is_found_and_the_times_of_the_others_are_told(stretch: Stretch, tmp_path: Path) -> None:
    sound = listed(stretch.places.log(), stretch)
    log = stretch.copied(tmp_path)
    bad = [sound[0].path.name, sound[2].path.name]
    for name in bad:
        flip(tmp_path / "pg_wal" / name, 8192 * 60 + 100)
    found = listed(log, stretch)
    for one in (found[0], found[2]):
        with pytest.raises(DamageFound, match=one.path.name):
            log.check(one)
    assert found[-1].log.last_commit_at == sound[-1].log.last_commit_at is not None


def test_a_record_that_goes_over_into_the_next_segment_is_checked(stretch: Stretch, tmp_path: Path) -> None:
    log = stretch.copied(tmp_path)
    found = listed(stretch.places.log(), stretch)
    # The second segment begins with the end of a record of the first: right after the long header.
    second = tmp_path / "pg_wal" / found[1].path.name
    left = int.from_bytes(second.read_bytes()[16:20], "little")
    assert left > 0, "the log was laid out otherwise than this test needs"
    flip(second, 40)
    found = listed(log, stretch)
    for one in found[:2]:
        with pytest.raises(DamageFound):
            log.check(one)
    log.check(found[2])
    # Also when only the second is taken.
    alone = stretch.places.log(tmp_path)
    with pytest.raises(DamageFound):
        alone.check(alone.closed(found[0].log.end, stretch.until)[0])


def test_without_pg_waldump_the_record_says_so(stretch: Stretch, tmp_path: Path) -> None:
    log = stretch.copied(tmp_path, parse=False)
    found = listed(log, stretch)
    for one in found:
        log.check(one)
        assert one.log.first_commit_at is None
    assert log.notes == (RECORDS_UNPARSED,)


def test_two_segments_that_changed_names_are_found(stretch: Stretch, tmp_path: Path) -> None:
    log = stretch.copied(tmp_path, parse=False)
    one, two = (tmp_path / "pg_wal" / each.path.name for each in listed(stretch.places.log(), stretch)[:2])
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    for each in listed(log, stretch)[:2]:
        with pytest.raises(DamageFound, match="begins at LSN"):
            log.check(each)


def test_a_cut_segment_is_found(stretch: Stretch, tmp_path: Path) -> None:
    log = stretch.copied(tmp_path)
    os.truncate(tmp_path / "pg_wal" / listed(stretch.places.log(), stretch)[0].path.name, MIB - 4096)
    with pytest.raises(DamageFound, match="bytes long"):
        log.check(listed(log, stretch)[0])


def test_another_clusters_segment_is_found(stretch: Stretch, tmp_path: Path) -> None:
    other = CopyLog(
        stretch.places.copied(tmp_path),
        system_identifier=stretch.places.system_identifier + 1,
        major=stretch.places.pair.active.major,
        segment_bytes=MIB,
    )
    with pytest.raises(DamageFound, match="is of cluster"):
        other.check(listed(other, stretch)[0])


def test_a_segment_that_changes_after_it_was_listed_is_found(stretch: Stretch, tmp_path: Path) -> None:
    log = stretch.copied(tmp_path)
    found = listed(log, stretch)
    place = tmp_path / "pg_wal" / found[-1].path.name
    flip(place, MIB - 1)  # on an empty page behind the switch
    with pytest.raises(DamageFound):
        log.check(found[-1])
    # One that is sound again is not the one that was listed when a byte that nobody reads differs.
    flip(place, MIB - 1)
    log.check(found[-1])
    flip(place, 20)  # padding of the header
    with pytest.raises(DamageFound, match="changed since it was listed"):
        log.check(found[-1])
    place.unlink()
    with pytest.raises(NotHealthy, match="gone"):
        log.check(found[-1])


def test_each_segment_is_read_once(stretch: Stretch, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path) -> object:
        read.append(path)
        return read_segment(path)

    monkeypatch.setattr(closed_logs, "read_segment", counted)
    log = stretch.places.log()
    found = listed(log, stretch)
    for one in found:
        log.check(one)
    assert sorted(read) == sorted({*read})
    assert len(read) <= len(found) + 1
