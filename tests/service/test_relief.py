"""An incremental beside the schedule, when held log is at risk and an incremental helps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backupd.decide.log_guard import INCREMENT_SECONDS_MIN
from backupd.errors import Busy
from backupd.journal.records import JsonValue
from backupd.model.rules import Task
from backupd.service.relief import Relief

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def status(level: str, *, helps: bool) -> dict[str, JsonValue]:
    return {
        "log_guard": {
            "a": {"level": "none", "incremental_helps": helps},
            "b": {"level": level, "incremental_helps": helps},
        }
    }


def test_it_is_asked_for_once_in_a_while() -> None:
    asked: list[tuple[str, Task]] = []
    relief = Relief(lambda database, task: asked.append((database, task)))
    relief.look("orders", status("none", helps=True), NOW)
    relief.look("orders", status("critical", helps=False), NOW)
    relief.look("orders", {}, NOW)
    assert asked == []
    for seconds in (0, 1, INCREMENT_SECONDS_MIN - 1, INCREMENT_SECONDS_MIN):
        relief.look("orders", status("warning", helps=True), NOW + timedelta(seconds=seconds))
    assert asked == [("orders", Task.INCREMENTAL)] * 2
    relief.look("ledger", status("warning", helps=True), NOW)
    assert asked[-1] == ("ledger", Task.INCREMENTAL)


def test_a_run_that_goes_on_is_not_disturbed() -> None:
    def busy(database: str, task: Task) -> None:
        raise Busy(f"a run of {database} cannot begin now", because=f"{task}", next_step="wait")

    Relief(busy).look("orders", status("critical", helps=True), NOW)
