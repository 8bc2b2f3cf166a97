"""The roles in contrib/s3 can do what each is for, and no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

HERE = Path(__file__).parents[3] / "contrib" / "s3"


def actions(role: str, effect: str) -> set[str]:
    policy = json.loads((HERE / f"{role}-policy.json").read_text())
    found: set[str] = set()
    for statement in policy["Statement"]:
        if statement["Effect"] == effect and "Condition" not in statement:
            action = statement["Action"]
            found |= {action} if isinstance(action, str) else set(action)
    return found


@pytest.mark.parametrize("role", ["writer", "pruner", "restore"])
def test_no_role_can_break_a_lock(role: str) -> None:
    risky = {"s3:DeleteObjectVersion", "s3:BypassGovernanceRetention", "s3:PutLifecycleConfiguration", "s3:*", "*"}
    assert not actions(role, "Allow") & risky
    assert {"s3:ListBucket", "s3:GetObject"} <= actions(role, "Allow")


def test_each_role_has_its_own_rights() -> None:
    assert {"s3:PutObject", "s3:PutObjectRetention"} <= actions("writer", "Allow")
    assert not {action for action in actions("writer", "Allow") if "Delete" in action}
    assert "s3:DeleteObject" in actions("writer", "Deny")
    assert {"s3:PutObject", "s3:DeleteObject"} <= actions("pruner", "Allow")
    assert not {action for action in actions("restore", "Allow") if "Put" in action or "Delete" in action}


def test_writers_never_overwrite() -> None:
    for role in ("writer", "pruner"):
        policy = json.loads((HERE / f"{role}-policy.json").read_text())
        assert [each for each in policy["Statement"] if each.get("Condition") == {"Null": {"s3:if-none-match": "true"}}]


def test_the_text_names_every_file() -> None:
    text = (HERE / "README.md").read_text()
    for path in HERE.glob("*.json"):
        json.loads(path.read_text())
        assert f"`{path.name}`" in text
