"""How much one verify reads, as a policy and as the command line say it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from backupd.model.rules import VerifyRules
from backupd.policy.schema import Policy
from backupd.policy.verify import read_budget, read_rules

SMALLEST: dict[str, Any] = {
    "database": "orders",
    "engine": "sqlite",
    "archive": "file:///backups",
    "copies": {"a": {"path": "/data/app.db"}, "b": {"path": "/data/passive/app.db"}},
}


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("10GiB", (10 * 2**30, None)),
        ("1.5 MiB", (3 * 2**19, None)),
        (4096, (4096, None)),
        ("4096", (4096, None)),
        ("10%", (None, 0.1)),
        ("0.5 %", (None, 0.005)),
        ("100%", (None, 1.0)),
    ],
)
def test_budgets(text: str | int, budget: tuple[int | None, float | None]) -> None:
    assert read_budget(text) == budget


@pytest.mark.parametrize("text", ["", "0B", 0, -5, "0%", "101%", "-1%", "ten", "10 percent", "10g", "%"])
def test_what_is_no_budget(text: str | int) -> None:
    with pytest.raises(ValueError, match=r"budget|share"):
        read_budget(text)


def test_without_a_table_all_is_read() -> None:
    assert Policy.model_validate(SMALLEST).verify_rules().reads_all


def test_the_table_becomes_rules() -> None:
    table = {"budget": "10%", "budget_seconds_max": "30m", "reverify_days": 30}
    assert Policy.model_validate({**SMALLEST, "verify": table}).verify_rules() == VerifyRules(None, 0.1, 1800, 30)


@pytest.mark.parametrize(
    "table",
    [
        {"budget": "x"},
        {"budget": True},
        {"budget_seconds_max": 0},
        {"reverify_days": 0},
        {"reverify_days": "30"},
        {"level": "data"},
    ],
)
def test_what_the_table_refuses(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate({**SMALLEST, "verify": table})


def test_a_share_is_of_what_is_stored_and_never_nothing() -> None:
    assert read_rules("10%", None, None).budget_bytes(1000) == 100
    assert read_rules("10%", None, None).budget_bytes(1001) == 101
    assert read_rules("1%", None, None).budget_bytes(3) == 1
    assert read_rules("2KiB", None, None).budget_bytes(3) == 2048
    assert read_rules(None, None, None).budget_bytes(3) is None
