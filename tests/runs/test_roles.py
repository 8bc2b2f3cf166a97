"""What a run makes of copies that are silent, misconfigured, or not what they were when it began."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.errors import ConfigInvalid, NotHealthy, Refused
from backupd.model.pair import CopyRole, CopyState, PairStatus
from backupd.model.records import BackupType
from backupd.model.states import RunState
from backupd.runs.backup import run_backup
from tests.runs.world import World


def silent(pair: PairStatus) -> PairStatus:
    """Nobody answered in time."""
    return replace(pair, passive=replace(pair.passive, state=CopyState.FAILED, because="no answer within 0.8 s"))


def test_a_copy_that_was_silent_for_a_moment_is_asked_once_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    look, answers = world.writer.pair, [silent]
    monkeypatch.setattr(world.writer, "pair", lambda: answers.pop()(look()) if answers else look())
    assert run_backup(world.context(), BackupType.FULL).state is RunState.COMPLETE


def test_a_copy_that_stays_silent_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    look = world.writer.pair
    monkeypatch.setattr(world.writer, "pair", lambda: silent(look()))
    began = world.clock.at
    with pytest.raises(NotHealthy, match="failed"):
        run_backup(world.context(), BackupType.FULL)
    assert (world.clock.at - began).total_seconds() < 5


def test_a_misconfigured_copy_says_itself_what_is_wrong(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise ConfigInvalid("cannot log in to b", because="the password is wrong", next_step="correct ~/.pgpass")

    look = world.writer.pair
    monkeypatch.setattr(world.writer, "pair", lambda: silent(look()))
    monkeypatch.setattr(world.writer, "truncation_evidence", wrong)
    with pytest.raises(ConfigInvalid, match="cannot log in"):
        run_backup(world.context(), BackupType.FULL)


def promoted(pair: PairStatus) -> PairStatus:
    """The passive of before is the active now."""
    active = replace(pair.passive, role=CopyRole.ACTIVE)
    return replace(pair, active=active, passive=replace(pair.active, role=CopyRole.PASSIVE))


@pytest.mark.parametrize(
    "error",
    [
        NotHealthy("cannot connect to copy a", because="connection refused", next_step="start it"),
        Refused("two actives", because="a and b are primaries", next_step="stop a", two_actives=True),
    ],
)
def test_what_a_promotion_breaks_is_told_as_a_role_change(
    world: World, error: NotHealthy | Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, was = world.writer.pair, []

    def prepare(**_: object) -> None:
        was.append(True)
        raise error

    monkeypatch.setattr(world.writer, "prepare", prepare)
    monkeypatch.setattr(world.writer, "pair", lambda: promoted(look()) if was else look())
    with pytest.raises(NotHealthy, match="the roles changed during the run") as caught:
        run_backup(world.context(), BackupType.FULL)
    assert caught.value.details["role_change"] is True
    assert error.because in caught.value.because
    run = world.context().journal.runs()[0]
    assert run.state is RunState.ABORTED
    last = world.context().journal.transitions(run.id)[-1]
    assert "role" in str(last) or "role" in str(run.facts)


def test_an_error_without_a_role_change_stays_what_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(**_: object) -> None:
        raise NotHealthy("cannot connect to copy a", because="connection refused", next_step="start it")

    monkeypatch.setattr(world.writer, "prepare", prepare)
    with pytest.raises(NotHealthy, match="cannot connect"):
        run_backup(world.context(), BackupType.FULL)
