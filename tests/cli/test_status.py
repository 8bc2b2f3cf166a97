"""What an engine knows about a copy beyond the table is shown below it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from backupd.cli import status

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def copy(name: str, role: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "state": "healthy",
        "copy_queue_logs": 0,
        "replay_queue_logs": 1,
        "held_log_bytes": 16 << 20,
        **more,
    }


def row(*copies: dict[str, Any]) -> dict[str, Any]:
    return {"name": "ledger", "engine": "postgres", "copies": list(copies), "alarms": []}


def test_the_engine_s_facts_are_shown_in_units(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"role": "passive", "lag_bytes": "2097152", "lag_seconds": "75.0", "replay": "not paused", "x_bytes": "?"}
    status._print(row(copy("a", "active"), copy("b", "passive", facts=facts)), NOW)
    told = capsys.readouterr().out
    assert "  copy b  lag 2.0 MiB, lag 1 min 15 s, replay not paused, x bytes ?\n" in told
    assert "copy a" not in told


def test_without_facts_the_table_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    status._print(row(copy("a", "active"), copy("b", "passive")), NOW)
    told = capsys.readouterr().out
    assert "copy a" not in told
    assert "copy b" not in told


def test_an_alarm_names_a_position_as_postgresql_does(capsys: pytest.CaptureFixture[str]) -> None:
    status._print(row(copy("a", "active"), copy("b", "passive")) | {"alarms": ["log before 1/50331648 is lost"]}, NOW)
    assert "! log before 1 @ 0/3000000 is lost" in capsys.readouterr().out


def test_what_runs_on_another_node_is_named_with_that_node_s_times(capsys: pytest.CaptureFixture[str]) -> None:
    running = {"run": "full backup of ledger", "host": "beta", "pid": 12}
    running |= {"since": "2026-11-22T11:00:00+00:00", "renewed_at": "2026-11-22T11:30:20+00:00"}
    status._print(row(copy("a", "active"), copy("b", "passive")) | {"running": running}, NOW)
    told = " ".join(capsys.readouterr().out.split())
    assert "running full backup of ledger on beta, process 12, since 2026-11-22" in told
    assert "its lease renewed 2026-11-22" in told
