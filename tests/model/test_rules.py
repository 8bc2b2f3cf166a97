"""What a policy wants, as values."""

from __future__ import annotations

from backupd.model.rules import RetentionRules


def test_rules_that_want_nothing_are_empty() -> None:
    assert RetentionRules().is_empty
    assert RetentionRules(keep_days=0).is_empty
    assert not RetentionRules(keep_days=1).is_empty
    assert not RetentionRules(keep_yearly_fulls=1).is_empty
