"""The alarms of a database: codes and subjects that stay, what helps, and the guard over its held log."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backupd.journal.records import RunKind
from backupd.model.alarm import Severity
from backupd.model.pair import CopyRole, CopyState, CopyStatus, PairStatus
from backupd.model.position import Position
from backupd.model.records import BackupType, Hold
from backupd.model.states import RunEvent
from backupd.runs.alarms import of_pair
from backupd.runs.backup import run_backup
from backupd.runs.held_log import budget_bytes, remember_held_log, samples_of
from backupd.runs.status import status_of
from tests.runs.world import World


def details(world: World) -> dict[str, dict[str, str]]:
    status: dict[str, Any] = status_of(world.context())
    assert [one["sentence"] for one in status["alarm_details"]] == status["alarms"]
    return {one["code"]: one for one in status["alarm_details"]}


def hold_much_log(monkeypatch: pytest.MonkeyPatch, world: World, held: int, free: int | None = None) -> None:
    def pair_now(real: Any = world.writer.pair) -> PairStatus:
        pair: PairStatus = real()
        active = replace(pair.active, held_log_bytes=held, log_disk_free_bytes=free)
        return replace(pair, active=active)

    monkeypatch.setattr(world.writer, "pair", pair_now)


def a_pair(sentence: str = "", state: CopyState = CopyState.HEALTHY) -> PairStatus:
    active = CopyStatus("a", CopyRole.ACTIVE, CopyState.HEALTHY, "/a")
    passive = CopyStatus("b", CopyRole.PASSIVE, state, "/b", "why not")
    return PairStatus("shop", "postgres", active, passive, "1", (sentence,) if sentence else ())


def test_no_full_yet_is_critical_and_says_what_helps(world: World) -> None:
    found = details(world)["no-full"]
    assert (found["severity"], found["next_step"]) == ("critical", "backupctl backup orders --type full")


def test_an_archive_that_is_away_and_one_that_is_empty_are_told_apart(world: World) -> None:
    run_backup(world.context(), BackupType.FULL)
    assert details(world) == {}
    shutil.move(world.backups, world.root / "away")
    assert details(world)["archive-away"]["severity"] == "critical"
    world.backups.mkdir()
    assert "archive-empty" in details(world)


def test_a_failed_backup_is_one_alarm_however_often_it_fails(world: World) -> None:
    run_backup(world.context(), BackupType.FULL)

    context = world.context()
    for _ in range(2):
        run = context.journal.begin_run(database="orders", kind=RunKind.BACKUP, type="full")
        context.journal.move(run.id, RunEvent.PREPARE)
        context.journal.move(run.id, RunEvent.FAIL, because="it burns")
        found = details(world)["backup-failed"]
        assert (found["subject"], found["severity"]) == ("", "critical")
        assert "it burns" in found["sentence"]


@pytest.mark.parametrize(
    ("sentence", "code", "subject", "severity"),
    [
        ("copy b (passive) is suspended: by hand", "copy-not-healthy", "b", Severity.WARNING),
        ("copy b (passive) is must be seeded: damage", "copy-not-healthy", "b", Severity.CRITICAL),
        ("copy a has no slot backupd: nothing keeps its log", "slot-missing", "a", Severity.WARNING),
        ("slot backupd of copy a has lost log that no backup holds", "slot-lost", "a", Severity.CRITICAL),
        ("slot backupd of copy a is about to lose its log", "slot-at-risk", "a", Severity.CRITICAL),
        ("data checksums are off: backups cannot tell", "checksums-off", "", Severity.WARNING),
        ("shop has 2 active copies: a and b", "pair", "shop has N active copies", Severity.CRITICAL),
    ],
)
def test_what_an_engine_says_gets_a_code_that_stays(sentence: str, code: str, subject: str, severity: Severity) -> None:
    (alarm,) = of_pair("shop", a_pair(sentence, CopyState.FAILED))
    assert (alarm.code, alarm.subject, alarm.severity) == (code, subject, severity)
    assert alarm.sentence == sentence
    assert alarm.next_step


@pytest.mark.parametrize("state", [state for state in CopyState if state is not CopyState.HEALTHY])
def test_a_copy_that_is_not_healthy_is_an_alarm_in_every_state(state: CopyState) -> None:
    (alarm,) = of_pair("shop", a_pair(state=state))
    assert (alarm.code, alarm.subject) == ("copy-not-healthy", "b")


def test_held_log_near_its_budget_names_the_blocker_and_when_an_increment_helps(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_backup(world.context(), BackupType.FULL)
    budget = budget_bytes(world.context())
    hold_much_log(monkeypatch, world, int(budget * 0.72), free=2**50)
    found = details(world)["held-log"]
    assert (found["severity"], found["subject"]) == ("warning", world.writer.pair().active.name)
    assert found["next_step"] == "backupctl backup orders --type incremental"
    assert "the archive does not hold yet" in found["sentence"]

    needs = Position("1" * 16, 0)
    world.context().journal.place_hold(Hold("somebody", "orders", needs, "a reason", world.clock.now()))
    hold_much_log(monkeypatch, world, int(budget * 0.9))
    found = details(world)["held-log"]
    assert found["severity"] == "critical"
    assert "somebody holds the log (a reason)" in found["sentence"]
    assert found["next_step"] == "backupctl explain truncation orders"


def test_a_full_disk_is_critical_long_before_the_budget(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_backup(world.context(), BackupType.FULL)
    hold_much_log(monkeypatch, world, held=10 * 2**20, free=2**20)
    assert details(world)["held-log"]["severity"] == "critical"


def test_the_rate_survives_a_restart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_backup(world.context(), BackupType.FULL)
    budget = budget_bytes(world.context())
    for share in (0.6, 0.7, 0.8):
        hold_much_log(monkeypatch, world, int(budget * share))
        remember_held_log(world.context(), world.writer.pair().copies)
        remember_held_log(world.context(), world.writer.pair().copies)  # too soon: it is no sample
        world.clock.sleep(3600)
    assert len(samples_of(world.context())[world.writer.pair().active.name]) == 3
    sentence = details(world)["held-log"]["sentence"]
    assert "an hour" in sentence
    assert "the budget is used up at" in sentence


@pytest.mark.parametrize("junk", [b"", b"[]", b'{"copies": {"a": [[1]]}}', b'{"copies": {"a": 7}}', b"\xff"])
def test_samples_that_cannot_be_understood_are_forgotten(world: World, junk: bytes) -> None:
    run_backup(world.context(), BackupType.FULL)
    place = Path(world.context().state_dir) / "held-log.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(junk)
    assert samples_of(world.context()) == {}
    assert details(world) == {}


def test_policies_that_only_say_when_to_warn_are_warned_as_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_backup(world.context(), BackupType.FULL)
    warn = world.context().policy.truncation.held_log_bytes_warn
    hold_much_log(monkeypatch, world, warn - 2**20)
    assert "held-log" not in details(world)
    hold_much_log(monkeypatch, world, warn)
    assert details(world)["held-log"]["severity"] == "warning"
