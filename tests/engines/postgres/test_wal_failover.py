"""The log over a failover, and in files that are used again: from real servers."""

from __future__ import annotations

import pytest

from backupd.engines.postgres.slots import ensure_slots
from backupd.engines.postgres.timelines import timeline_story
from backupd.engines.postgres.truncation import log_from
from backupd.errors import NotHealthy
from backupd.model.position import Position
from tests.engines.postgres.wal_places import SLOT, Places, switch_over
from tests.pg_pairs import PairFactory, all_versions, server_of

pytestmark = [pytest.mark.real, pytest.mark.slow]
MIB = 1 << 20


@pytest.mark.parametrize("major", all_versions())
def test_log_goes_on_over_a_failover(make_pair: PairFactory, major: int) -> None:
    pair = make_pair(major, segment_mib=1, settings={"wal_keep_size": "64MB"})
    places = Places.of(pair)
    after = places.close()
    places.fill(1.4)
    places.close()
    places.fill(0.3)  # so that the promotion happens inside a segment
    pair.wait_caught_up()
    old = pair.active
    pair.fail_over()
    pair.seed(old, pair.active)
    pair.wait_streaming()
    places.fill(1.2)
    until = places.close()
    assert until.history == "2"
    # The new passive was made anew; the log from before is on the active.
    log = places.log(pair.active.data)
    found = log.closed(after, until)
    place = after
    for one in found:
        assert one.log.start == place, one
        log.check(one)
        place = one.log.end
    assert place == until
    crossing = [one for one in found if one.log.ancestry]
    assert [(one.log.start.history, one.log.end.history) for one in crossing] == [("1", "2")]
    with server_of(pair, "active") as active:
        assert timeline_story(2, None, active) == timeline_story(2, pair.active.data)
        with pytest.raises(NotHealthy, match="timeline 7"):
            timeline_story(7, pair.active.data, active)
    assert crossing[0].log.ancestry == (pair.active.data / "pg_wal" / "00000002.history").read_text()
    (switched,) = places.ancestry
    assert crossing[0].log.start.offset <= switched.offset < crossing[0].log.end.offset
    assert switched.offset % MIB, "the promotion was to happen inside a segment"
    # What the first timeline wrote after the place of the switch is on nobody's way.
    with pytest.raises(NotHealthy, match="not on the way"):
        log.closed(Position("1", crossing[0].log.end.offset), until)


@pytest.mark.parametrize("major", all_versions())
def test_after_a_switchover_the_new_passive_has_all_log_itself(make_pair: PairFactory, major: int) -> None:
    # The old active comes back as a standby without being made anew: it had written nothing of its own.
    pair = make_pair(major, segment_mib=1, settings={"wal_keep_size": "64MB"})
    places = Places.of(pair)
    with server_of(pair, "active") as active, server_of(pair, "passive") as passive:
        ensure_slots(active, passive, SLOT)
    after = places.close()
    places.fill(1.4)
    switch_over(pair)
    places.fill(0.4)
    until = places.close()
    with server_of(pair, "active") as active, server_of(pair, "passive") as passive:
        assert ensure_slots(active, passive, SLOT) == ()
        begins = log_from(passive, places.place)
    assert begins is not None
    assert begins <= Position("2", after.offset)
    log = places.log()
    found = log.closed(after, until)
    for one in found:
        log.check(one)
    assert found[0].log.start == after
    assert found[-1].log.end == until
    assert [one.log.history for one in found if one.log.ancestry] == ["2"]


@pytest.mark.parametrize("size", [1, 16])
def test_recycled_segments_that_were_switched_are_sound(make_pair: PairFactory, size: int) -> None:
    # Files are used again and again, by the primary as by the standby; what was in them must not matter.
    sizes = {"min_wal_size": f"{8 * size}MB", "max_wal_size": f"{8 * size}MB", "wal_keep_size": f"{4 * size}MB"}
    pair = make_pair(segment_mib=size, settings=sizes)
    places = Places.of(pair)
    for _ in range(4):
        places.fill(3.0 * size)
        pair.active.psql("CHECKPOINT")
        pair.wait_caught_up()
        pair.passive.psql("CHECKPOINT")
    after = places.close()
    for _ in range(3):
        places.fill(0.1)
        until = places.close()
    log = places.log()
    found = log.closed(after, until)
    for one in found:
        log.check(one)
    assert [one.log.end for one in found][-1] == until
