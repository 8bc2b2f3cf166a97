"""The numbers: what the board says is in them, and what alerts and the dashboard ask for is there."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="needs prometheus-client: pip install '.[service,test]'")
from prometheus_client.parser import text_string_to_metric_families

from backupd.service.metrics import FAMILIES, metrics_text
from tests.service.web.showroom import NOW, healthy, overdue, warned

CONTRIB = Path(__file__).parents[2] / "contrib"
UNITS = ("_seconds", "_bytes", "_logs", "_files")
WITHOUT_UNIT = {
    *("database_info", "run_in_progress", "copy_healthy", "copy_state", "slot_state", "holds", "last_drill_sound"),
    *("alarms", "alarm"),
}


def samples(*statuses: dict[str, Any]) -> dict[tuple[str, tuple[str, ...]], float]:
    text = metrics_text([(status, NOW) for status in statuses], NOW).decode()
    return {
        (sample.name, tuple(value for key, value in sorted(sample.labels.items()) if key != "database")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_healthy_database_in_numbers() -> None:
    found = samples(healthy("orders"))
    assert (
        found["backupd_last_success_timestamp_seconds", ("incremental",)] == (NOW - timedelta(minutes=35)).timestamp()
    )
    assert found["backupd_last_backup_duration_seconds", ("full",)] == 95
    assert found["backupd_last_backup_frozen_seconds", ("full",)] == 0.41
    assert found["backupd_last_backup_stored_bytes", ("full",)] == 4_800_000_000
    assert found["backupd_expected_interval_seconds", ("any",)] == 86400
    assert found["backupd_recovery_point_age_seconds", ()] == 35 * 60
    assert found["backupd_replay_queue_logs", ("b",)] == 1
    assert found["backupd_slot_state", ("a", "active", "reserved")] == 1
    assert found["backupd_last_drill_sound", ()] == 1
    assert found["backupd_last_proven_timestamp_seconds", ()] == (NOW - timedelta(days=2)).timestamp()
    assert found["backupd_last_proven_point_timestamp_seconds", ()] < NOW.timestamp()
    assert found["backupd_expected_restore_seconds", ()] == 190
    assert found["backupd_verified_bytes", ()] == 9_000_000_000
    assert found["backupd_alarms", ("critical",)] == 0


def test_a_broken_one_in_numbers() -> None:
    found = samples(overdue("orders"))
    assert found["backupd_copy_healthy", ("b", "passive")] == 0
    assert found["backupd_copy_state", ("b", "passive", "suspended")] == 1
    assert found["backupd_held_log_bytes", ("a", "active")] > found["backupd_held_log_budget_bytes", ()]
    assert found["backupd_alarm", ("backup-overdue", "critical", "")] == 1


def test_a_database_of_which_nothing_is_known_has_no_made_up_numbers() -> None:
    nothing: dict[str, Any] = {"name": "orders", "engine": "sqlite", "copies": [], "alarms": ["all is away"]}
    found = samples(nothing)
    assert not [name for name, _ in found if "last_success" in name or "recovery" in name]
    assert found["backupd_alarms", ("unknown",)] == 1


def test_many_databases_are_one_text() -> None:
    text = metrics_text([(healthy(f"db-{number}"), NOW) for number in range(50)], NOW).decode()
    assert text.count("# TYPE backupd_holds gauge") == 1
    assert text.count("backupd_holds{") == 50


def test_names_end_with_their_unit() -> None:
    for name in FAMILIES:
        assert name.endswith(UNITS) or name in WITHOUT_UNIT, name


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"\bbackupd_[a-z_]+", text))


@pytest.mark.parametrize("path", ["prometheus/alerts.yml", "grafana/backupd.json"])
def test_what_is_asked_for_is_there(path: str) -> None:
    known = {f"backupd_{name}" for name in FAMILIES} | {"backupd_info"}
    asked = metric_names((CONTRIB / path).read_text())
    assert asked
    assert asked <= known


def test_every_sample_has_its_familys_labels() -> None:
    # A wrong count of labels would fail here, and not at the first alarm of that kind.
    metrics_text([(one, NOW) for one in (healthy("a"), overdue("b"), warned("c"))], NOW)


def test_the_dashboard_is_json_with_a_query_in_each_panel() -> None:
    board = json.loads((CONTRIB / "grafana/backupd.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(panels) >= 8
    assert all(target["expr"] for panel in panels for target in panel["targets"])


def test_the_alert_rules_have_what_a_person_needs() -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, which comes with the test requirements")
    (group,) = yaml.safe_load((CONTRIB / "prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert rule["alert"].startswith("Backupd")
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert {"summary", "description"} <= set(rule["annotations"])
