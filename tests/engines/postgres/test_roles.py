"""Who is active and who is passive, and which two servers are no pair."""

from __future__ import annotations

from typing import Any

import pytest

from backupd.engines.postgres.facts import ServerFacts
from backupd.engines.postgres.roles import judge_pair
from backupd.errors import BackupdError, ConfigInvalid, NotHealthy, Refused
from backupd.model.position import Position
from tests.engines.postgres.fact_builders import DOWN, END, SEGMENT, primary, standby

OLDER = "1\t0/60000000\tno recovery target specified\n"
ENDED = 0x60000000


def test_roles_come_from_the_servers_and_not_from_the_order_in_the_policy() -> None:
    for copies in ({"a": primary(), "b": standby()}, {"b": standby(), "a": primary()}):
        pair = judge_pair("shop", copies)
        assert (pair.active, pair.passive, pair.history) == ("a", "b", "1")
    assert judge_pair("shop", {"a": standby(), "b": primary()}).active == "b"


def test_with_one_copy_away_the_other_says_who_it_is() -> None:
    pair = judge_pair("shop", {"a": DOWN, "b": standby()})
    assert (pair.active, pair.passive, pair.active_facts) == ("a", "b", None)
    assert "b is in recovery" in pair.because
    assert judge_pair("shop", {"a": DOWN, "b": primary()}).active == "b"
    assert judge_pair("shop", {"a": standby(), "b": DOWN}).active == "b"
    with pytest.raises(NotHealthy) as error:
        pair.need_both()
    assert error.value is DOWN


def test_with_both_away_there_is_nothing_to_judge() -> None:
    with pytest.raises(NotHealthy, match="neither copy of shop answers"):
        judge_pair("shop", {"a": DOWN, "b": DOWN})
    wrong = ConfigInvalid("the server does not let us in", because="password", next_step="give it")
    with pytest.raises(ConfigInvalid, match="let us in"):
        judge_pair("shop", {"a": DOWN, "b": wrong})


STRANGER: dict[str, Any] = {"system_identifier": "42"}
NEWER: dict[str, Any] = {"timeline": 2, "history_text": OLDER}
BEHIND: dict[str, Any] = {"receiver": None, "receive_lsn": ENDED, "replay_lsn": ENDED}
NO_PAIR: list[tuple[str, ServerFacts, ServerFacts, type[BackupdError], str]] = [
    ("two primaries", primary(), primary(), Refused, "two active copies"),
    ("two primaries after a failover", primary(), primary(timeline=2), Refused, "stop a, and make it a standby of b"),
    ("two standbys", standby(), standby(), Refused, "both in recovery"),
    ("strangers", primary(), standby(**STRANGER), Refused, "system identifier 42"),
    ("strangers that are both primaries", primary(), primary(**STRANGER), Refused, "not one pair"),
    ("the passive follows a newer timeline", primary(), standby(timeline=2), Refused, "follows timeline 2"),
    ("the passive went past the fork", primary(**NEWER), standby(), Refused, "timeline 1 ended at 0/60000000"),
    ("a timeline of another branch", primary(**NEWER | {"timeline": 4}), standby(timeline=3), Refused, "not come from"),
    ("the passive is ahead", primary(), standby(receiver=None, receive_lsn=END + 8), Refused, "wrote up to"),
    ("other pages", primary(block_bytes=32768), standby(block_bytes=32768), ConfigInvalid, "32768"),
]


@pytest.mark.parametrize(("why", "a", "b", "kind", "says"), NO_PAIR, ids=[row[0] for row in NO_PAIR])
def test_what_is_no_pair_is_refused(
    why: str, a: ServerFacts, b: ServerFacts, kind: type[BackupdError], says: str
) -> None:
    with pytest.raises(kind) as error:
        judge_pair("shop", {"a": a, "b": b})
    assert says in "\n".join(error.value.lines())
    assert len(error.value.lines()) == 3


def test_a_passive_before_the_fork_may_still_follow() -> None:
    pair = judge_pair("shop", {"a": primary(**NEWER), "b": standby(**BEHIND)})
    assert pair.history == "2"
    assert pair.ancestry == (Position("1", ENDED),)


def test_without_the_history_file_an_older_timeline_is_left_to_the_fitness() -> None:
    assert judge_pair("shop", {"a": primary(timeline=2), "b": standby()}).ancestry == ()


def test_what_was_received_a_moment_after_the_active_was_asked_is_no_reason() -> None:
    judge_pair("shop", {"a": primary(), "b": standby(receive_lsn=END + SEGMENT, replay_lsn=END + SEGMENT)})
