"""When a passive may be backed up, when waiting makes sense, and when a person has to act."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from backupd.engines.postgres.cluster import PgOptions
from backupd.engines.postgres.facts import Receiver, ServerFacts
from backupd.engines.postgres.fitness import judge_passive, lag_seconds, stream_of
from tests.engines.postgres.fact_builders import END, NOW, SLOT, STREAM, primary, standby

OPTIONS = PgOptions(lag_bytes_max=64 << 20, lag_seconds_max=60.0)
BEHIND = {"replay_lsn": END - (65 << 20)}
SYNC = replace(STREAM, sync_state="sync")
QUORUM = replace(STREAM, sync_state="quorum")
OTHER = replace(STREAM, application_name="c", slot="node_c", sync_state="sync")
NO_SLOT = Receiver("streaming", 1, "", "10.0.0.1:5432")

UNFIT: list[tuple[str, ServerFacts | None, ServerFacts | None, bool]] = [
    ("passive-away", primary(), None, True),
    ("active-away", None, standby(), True),
    ("not-streaming", primary(), standby(receiver=None), True),
    ("not-streaming", primary(), standby(receiver=Receiver("waiting", 1, "node_b", "")), True),
    ("not-streaming", primary(streams=()), standby(), True),
    ("catching-up", primary(streams=(replace(STREAM, state="catchup"),)), standby(), True),
    ("older-timeline", primary(timeline=2), standby(), True),
    ("lag-bytes", primary(), standby(**BEHIND, last_xact_replay_at=NOW), True),
    ("lag-seconds", primary(), standby(replay_lsn=END - 8), True),
    ("delayed-on-purpose", primary(), standby(recovery_min_apply_delay_seconds=3600.0), False),
    ("paused-by-others", primary(), standby(replay_pause_state="paused"), False),
    ("paused-by-others", primary(), standby(replay_pause_state="pause requested"), False),
    ("full-page-writes-off", primary(full_page_writes=False), standby(), False),
    ("remote-apply", primary(synchronous_commit="remote_apply", streams=(SYNC,)), standby(), False),
    ("remote-apply", primary(synchronous_commit="remote_apply", streams=(QUORUM,)), standby(), False),
    ("remote-apply", primary(remote_apply_somewhere=True, streams=(SYNC,)), standby(), False),
]


@pytest.mark.parametrize(("code", "active", "passive", "may_wait"), UNFIT)
def test_what_speaks_against_a_passive(
    code: str, active: ServerFacts | None, passive: ServerFacts | None, may_wait: bool
) -> None:
    fitness = judge_passive(active, passive, OPTIONS)
    assert [reason.code for reason in fitness.reasons] == [code]
    assert (fitness.fit, fitness.may_wait) == (False, may_wait)


FIT = [
    (primary(), standby()),
    (primary(), standby(full_page_writes=False)),  # the active's counts
    (primary(), standby(replay_lsn=END - 8, last_xact_replay_at=NOW - timedelta(seconds=5))),
    (primary(), standby(replay_lsn=END - 8, last_xact_replay_at=None)),  # nothing was committed yet: bytes judge
    (primary(synchronous_commit="remote_apply"), standby()),  # asynchronous: nobody waits for it
    (primary(synchronous_commit="remote_apply", streams=(STREAM, OTHER)), standby()),  # another one is waited for
    (primary(synchronous_commit="on", streams=(SYNC,)), standby()),
    (primary(), standby(receiver=NO_SLOT)),
]


@pytest.mark.parametrize(("active", "passive"), FIT)
def test_a_passive_that_may_be_backed_up(active: ServerFacts, passive: ServerFacts) -> None:
    assert judge_passive(active, passive, OPTIONS).fit


def test_the_policy_may_accept_what_a_freeze_stops() -> None:
    active = primary(synchronous_commit="remote_apply", streams=(SYNC,))
    assert judge_passive(active, standby(), replace(OPTIONS, allow_remote_apply=True)).fit


def test_a_pause_of_ours_is_no_reason() -> None:
    assert judge_passive(primary(), standby(replay_pause_state="paused"), OPTIONS, our_pause=True).fit


def test_who_waits_sees_whether_it_moves() -> None:
    fitness = judge_passive(primary(), standby(**BEHIND), OPTIONS)
    assert (fitness.progress, fitness.lag_bytes) == (END - (65 << 20), 65 << 20)
    assert fitness.may_wait


def test_one_lasting_reason_ends_the_waiting() -> None:
    fitness = judge_passive(primary(), standby(receiver=None, replay_pause_state="paused"), OPTIONS)
    assert {reason.code for reason in fitness.reasons} == {"not-streaming", "paused-by-others"}
    assert not fitness.may_wait


def test_an_idle_active_is_never_far_away() -> None:
    assert lag_seconds(primary(), standby()) == 0.0
    assert lag_seconds(primary(), standby(replay_lsn=END - 1)) == 5 * 3600
    assert lag_seconds(primary(), standby(replay_lsn=END - 1, last_xact_replay_at=None)) is None


def test_a_lag_is_told_by_one_clock() -> None:
    ahead = standby(replay_lsn=END - 1, clock_at=NOW + timedelta(hours=1), last_xact_replay_at=NOW)
    assert lag_seconds(primary(), ahead) == 0.0


def test_the_stream_is_found_by_slot_by_name_or_because_it_is_alone() -> None:
    two = primary(streams=(OTHER, STREAM))
    assert stream_of(two, standby()) == STREAM
    assert stream_of(two, standby(receiver=NO_SLOT)) == STREAM
    assert stream_of(two, standby(receiver=NO_SLOT, primary_conninfo="")) is None
    assert stream_of(primary(streams=(OTHER,)), standby(receiver=NO_SLOT, primary_conninfo="")) == OTHER
    base_backup = replace(STREAM, application_name="pg_basebackup", slot="")
    assert stream_of(primary(streams=(base_backup,)), standby()) is None


def test_notes_do_not_stop_a_run() -> None:
    lost = replace(SLOT, wal_status="lost", restart_lsn=None)
    fitness = judge_passive(primary(slots=(lost,)), standby(slots=(), data_checksums=False), OPTIONS)
    assert fitness.fit
    assert [note.split(":")[0].split(" of ")[0] for note in fitness.notes] == [
        "data checksums are off",
        "slot backupd",
        "the passive has no slot backupd yet; a run makes it",
    ]
