"""What another retention would drop is asked of the archive as it is, and nothing is changed by asking."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupd.errors import ArchiveUnreachable
from backupd.model.records import BackupType
from backupd.policy.load import LoadedPolicy
from backupd.policy.schema import Policy
from backupd.runs.backup import run_backup
from backupd.runs.context import RunContext
from backupd.runs.copy_archive import run_copy_archive
from backupd.runs.listing import list_backups
from backupd.runs.policy_diff import diff_policies
from tests.runs.world import World

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def loaded(world: World, **retention: int) -> dict[str, LoadedPolicy]:
    policy = Policy.model_validate({**world.policy, "retention": retention})
    return {"orders": LoadedPolicy(policy, Path("orders.toml"))}


@pytest.fixture
def three_chains(world: World) -> World:
    for number in range(3):
        world.writer.commit(f"full {number}")
        run_backup(world.context(), BackupType.FULL)
        world.writer.commit(f"incremental {number}")
        run_backup(world.context(), BackupType.INCREMENTAL)
        world.clock.sleep(3600)
    return world


def test_a_shorter_retention_names_the_backups_that_would_go(three_chains: World) -> None:
    old, new = loaded(three_chains, keep_fulls_min=3), loaded(three_chains, keep_fulls_min=2)
    before = list_backups(three_chains.context())
    (change,) = diff_policies(old, new, NOW, 14, lambda _: three_chains.context())
    (retention,) = change.retention
    assert (retention.archive, retention.because) == ("first", "")
    oldest = [str(row["id"]) for row in before[:2]]
    assert sorted(backup for backup, _ in retention.would_drop) == sorted(oldest)
    assert all("no rule wants it (the newest 2 fulls)" in reason for _, reason in retention.would_drop)
    assert retention.would_keep == ()
    assert list_backups(three_chains.context()) == before


def test_a_longer_retention_names_the_backups_that_would_stay(three_chains: World) -> None:
    old, new = loaded(three_chains, keep_fulls_min=1), loaded(three_chains, keep_fulls_min=3)
    (change,) = diff_policies(old, new, NOW, 14, lambda _: three_chains.context())
    (retention,) = change.retention
    assert len(retention.would_keep) == 4
    assert change.as_json()["retention"][0]["known"]


def test_what_is_not_known_says_why(three_chains: World) -> None:
    def away(_: str) -> RunContext:
        raise ArchiveUnreachable("it is away", because="no route", next_step="wait")

    old, new = loaded(three_chains, keep_fulls_min=3), loaded(three_chains, keep_fulls_min=2)
    (offline,) = diff_policies(old, new, NOW, 14)
    (unreachable,) = diff_policies(old, new, NOW, 14, away)
    three_chains.policy["archive"] = "file:///another"
    (moved,) = diff_policies(old, loaded(three_chains, keep_fulls_min=2), NOW, 14, away)
    said = [change.retention[0].because for change in (offline, unreachable, moved)]
    assert said == [
        "the archive was not to be read",
        "it is away: no route",
        "its place changes too, from file:///nowhere to file:///another",
    ]


def test_an_archive_is_not_read_for_what_does_not_touch_the_retention(world: World) -> None:
    def never(_: str) -> RunContext:
        raise AssertionError("it was opened")

    old = loaded(world, keep_fulls_min=1)
    world.policy["schedule"] = {"full": "sun 02:00"}
    (change,) = diff_policies(old, loaded(world, keep_fulls_min=1), NOW, 14, never)
    assert change.retention == ()
    assert [key.place for key in change.keys] == ["schedule.full"]
    assert [str(one) for one in change.slots.sentences()] == [
        "2 fulls come: Sun 2026-11-22 02:00 UTC, Sun 2026-11-29 02:00 UTC"
    ]


def test_the_second_archive_has_its_own_retention_and_its_own_answer(three_chains: World) -> None:
    three_chains.policy["retention"] = {"keep_fulls_min": 3}
    three_chains.with_second(retention={"keep_fulls_min": 3})
    run_copy_archive(three_chains.context())
    old = loaded(three_chains, keep_fulls_min=3)
    three_chains.with_second(retention={"keep_fulls_min": 1})
    new = loaded(three_chains, keep_fulls_min=3)
    (change,) = diff_policies(old, new, NOW, 14, lambda _: three_chains.context())
    (retention,) = change.retention
    assert (retention.archive, retention.because) == ("second", "")
    assert len(retention.would_drop) == 4
