"""Units, defaults and the JSON Schema of a policy."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import backupd
from backupd.model.calendar import parse_calendar
from backupd.model.rules import RetentionRules, SourceRule, SourceRules, Task
from backupd.policy.postgres import PROVIDERS
from backupd.policy.schema import Policy, policy_json_schema
from backupd.policy.service_file import ServiceFile
from backupd.policy.units import read_duration, read_size

SMALLEST: dict[str, Any] = {
    "database": "orders",
    "engine": "sqlite",
    "archive": "file:///backups",
    "copies": {"a": {"path": "/data/app.db"}, "b": {"path": "/data/passive/app.db"}},
}


@pytest.mark.parametrize(
    ("text", "count"),
    [("4MiB", 4 * 2**20), ("1 GiB", 2**30), ("1.5KiB", 1536), ("10MB", 10**7), ("7B", 7), (12, 12)],
)
def test_sizes(text: str | int, count: int) -> None:
    assert read_size(text) == count


@pytest.mark.parametrize("text", ["4", "4M", "MiB", "-1MiB", "4mib", "1e3B", ""])
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        read_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("20s", 20), ("10min", 600), ("2h", 7200), ("1d", 86400), ("250ms", 0.25)]
)
def test_durations(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


_TASK_WORDS = {task.value for task in Task}


def test_the_smallest_policy_has_safe_defaults() -> None:
    policy = Policy.model_validate(SMALLEST)
    assert policy.freeze.seconds_max == 20
    assert policy.source.rule == "passive-only"
    assert policy.sqlite.log_file_bytes_max == 4 * 2**20
    assert policy.retention_rules().is_empty
    assert policy.schedule_rules().calendars == {}
    assert policy.archive_path == "/backups"


def test_every_task_of_a_schedule_is_handed_over() -> None:
    words = {task.value: f"sun 0{number}:00" for number, task in enumerate(Task)}
    drill = {"schedule": words[Task.DRILL]}  # it has a table of its own, without which there are no drills
    schedule = {name: text for name, text in words.items() if name != Task.DRILL}
    rules = Policy.model_validate({**SMALLEST, "schedule": schedule, "drill": drill}).schedule_rules()
    assert {task: str(calendar) for task, calendar in rules.calendars.items()} == {
        Task(name): text for name, text in words.items()
    }


def test_the_rules_are_handed_over_as_values() -> None:
    policy = Policy.model_validate(
        {
            **SMALLEST,
            "schedule": {"timezone": "Europe/Berlin", "full": "sun 02:00"},
            "retention": {"keep_days": 28, "keep_fulls_min": 2, "keep_within": "90d", "keep_daily": 7},
            "source": {"lag_logs_max": 5, "wait_seconds_max": "1min"},
        }
    )
    rules = policy.schedule_rules()
    assert (rules.timezone, rules.calendars) == ("Europe/Berlin", {Task.FULL: parse_calendar("sun 02:00")})
    assert policy.retention_rules() == RetentionRules(
        keep_days=28, keep_within=timedelta(days=90), keep_fulls_min=2, keep_daily=7, timezone="Europe/Berlin"
    )
    assert policy.source_rules() == SourceRules(SourceRule.PASSIVE_ONLY, lag_logs_max=5, wait_seconds_max=60)


@pytest.mark.parametrize("name", ["", "Orders", "a_b", "-a", "a-", "a/b", "..", "a" * 64, "ä", "a\n"])
def test_what_is_not_a_name(name: str) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate({**SMALLEST, "database": name})


@pytest.mark.parametrize("seconds", [0, -1, 301, float("inf"), float("nan"), "0s", True])
def test_a_freeze_limit_must_be_a_limit(seconds: object) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate({**SMALLEST, "freeze": {"seconds_max": seconds}})


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("archive_options", "segment_bytes", "32MiB"),
        ("freeze", "retry_after_seconds", "10min"),
        ("source", "lag_seconds_max", "10min"),
        ("source", "lag_bytes_max", "1GiB"),
        ("snapshot_command", "take", ["x"]),
        ("source", "rule", "prefer-passive"),
    ],
)
def test_what_would_have_no_effect_is_not_taken(table: str, key: str, value: str) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate({**SMALLEST, table: {key: value}})


POSTGRES: dict[str, Any] = {
    **SMALLEST,
    "engine": "postgres",
    "copies": {
        "a": {"conninfo": "host=db1", "data_directory": "/srv/a"},
        "b": {"conninfo": "host=db2", "data_directory": "/srv/b/"},
    },
}


def test_the_smallest_postgres_policy_has_safe_defaults() -> None:
    policy = Policy.model_validate(POSTGRES)
    assert policy.source.rule == "passive-only"
    assert (policy.source.lag_bytes_max, policy.source.lag_seconds_max) == (2**30, 3600)
    assert (policy.freeze.seconds_max, policy.freeze.paused_seconds_max) == (20, 900)
    assert not policy.postgres.allow_remote_apply
    assert (policy.postgres.slot, policy.postgres.stamp_database) == ("backupd", "postgres")
    assert [copy.place for copy in policy.copies.values()] == ["/srv/a", "/srv/b"]


def test_only_postgres_lets_the_active_stand_in() -> None:
    policy = Policy.model_validate({**POSTGRES, "source": {"rule": "prefer-passive"}})
    assert policy.source_rules().rule is SourceRule.PREFER_PASSIVE
    assert policy.source_rules().wait_seconds_max == 300
    with pytest.raises(ValidationError, match="never reads the active"):
        Policy.model_validate({**SMALLEST, "source": {"rule": "prefer-passive"}})


@pytest.mark.parametrize("provider", ["auto", "btrfs", "reflink", "live", "paused", "exec", "copy"])
@pytest.mark.parametrize("content", [SMALLEST, POSTGRES], ids=["sqlite", "postgres"])
def test_the_json_schema_and_the_reader_agree_about_providers(content: dict[str, Any], provider: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    content = {**content, "backup": {"provider": provider}}
    if provider == "exec":
        content["snapshot_command"] = {"take": ["take"], "release": ["release"]}
    fits = jsonschema.Draft202012Validator(policy_json_schema()).is_valid(content)
    if fits:
        Policy.model_validate(content)
    else:
        with pytest.raises(ValidationError):
            Policy.model_validate(content)
    assert fits == (provider in PROVIDERS[content["engine"]])


@pytest.mark.parametrize("key", ["path", "conninfo", "data_directory"])
@pytest.mark.parametrize("content", [SMALLEST, POSTGRES], ids=["sqlite", "postgres"])
def test_the_json_schema_knows_which_keys_a_copy_has(content: dict[str, Any], key: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    validator = jsonschema.Draft202012Validator(policy_json_schema())
    assert validator.is_valid(content)
    changed = dict(content["copies"]["a"])
    if key in changed:
        del changed[key]
    else:
        changed[key] = "/x"
    assert not validator.is_valid({**content, "copies": {**content["copies"], "a": changed}})
    for other in {"sqlite", "postgres"} - {content["engine"]}:
        assert not validator.is_valid({**content, other: {}})


def test_the_json_schema_describes_every_field_and_forbids_the_rest() -> None:
    schema = policy_json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"database", "engine", "archive", "copies"}
    assert all(section["additionalProperties"] is False for section in schema["$defs"].values())


def _fields(model: type[BaseModel]) -> list[tuple[str, str | None]]:
    found = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found.extend(_fields(field.annotation))
        else:
            found.append((f"{model.__name__}.{name}", field.description))
    return found


@pytest.mark.parametrize(("field", "description"), [*_fields(Policy), *_fields(ServiceFile)])
def test_every_field_says_what_it_is_and_its_unit(field: str, description: str | None) -> None:
    assert description, field
    for ending, word in (("_bytes", "size"), ("_bytes_max", "size"), ("_seconds", "duration"), ("_days", "days")):
        if field.endswith(ending):
            assert word in description, f"{field} does not say its unit"


@pytest.mark.parametrize("field", sorted({name for name, _ in (*_fields(Policy), *_fields(ServiceFile))}))
def test_every_field_is_read_somewhere_outside_the_policy(field: str) -> None:
    name = field.partition(".")[2]
    # What a schedule asks for is handed over by its task, which the deciding function walks through.
    read = re.compile(rf"\.{name}\b" if name not in _TASK_WORDS else r"\brules\.calendars\b")
    assert any(read.search(source) for source in _sources()), f"{field} does nothing"


@cache
def _sources() -> tuple[str, ...]:
    package = Path(backupd.__file__).parent
    return tuple(path.read_text() for path in package.rglob("*.py") if path.parent.name != "policy")
