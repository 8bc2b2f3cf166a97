"""The evidence about the log, as a person reads it."""

from __future__ import annotations

from backupd.cli.evidence import evidence_facts
from backupd.decide.truncation import LogEvidence, SecondEnd
from backupd.model.position import Position
from backupd.model.records import Hold
from backupd.runs.truncate import evidence_json
from tests.decide.builders import EPOCH

HERE = Position("1" * 16, 7)


def facts(**changes: object) -> dict[str, str]:
    nothing: dict[str, object] = {
        "database": "orders",
        "enabled": True,
        "history": HERE.history,
        "oldest_held": None,
        "archive_end": None,
        "last_backup": None,
        "last_backup_state": None,
        "passive_state": "healthy",
        "passive_because": "",
        "passive_replayed": HERE,
        "passive_checkpointed": None,
        "active_checkpointed": None,
        "holds": (),
        "age_seconds": 0.25,
        "age_seconds_max": 60.0,
    }
    return dict(evidence_facts(evidence_json(LogEvidence(**(nothing | changes)))))  # type: ignore[arg-type]


def test_before_any_backup_it_says_so_in_words() -> None:
    said = facts()
    assert list(said)[:3] == ["policy", "last backup", "archived, without a gap, up to"]
    assert said["last backup"] == "none yet"
    assert said["archived, without a gap, up to"] == "nothing of this history yet"
    assert said["the passive has replayed up to"] == str(HERE)
    assert said["the passive's data is durable up to"] == "not known"
    assert said["the copies were asked"] == "0.25 s ago; at most 1 min count"
    assert not [name for name in said if "_" in name]


def test_every_piece_of_evidence_is_shown() -> None:
    hold = Hold("a person", "orders", HERE, "the auditor reads it", EPOCH)
    said = facts(enabled=False, passive_state="suspended", passive_because="maintenance", holds=(hold,))
    assert said["policy"] == "truncation is switched off"
    assert said["the passive"] == "suspended (maintenance)"
    assert said["holds"] == f"a person needs the log from {HERE} on, because the auditor reads it"


def test_the_second_archive_is_shown_where_it_counts() -> None:
    name = "in the second archive, without a gap, up to"
    assert name not in facts()
    assert facts(second=SecondEnd("file:///other", HERE))[name] == f"{HERE} (file:///other)"
    said = facts(second=SecondEnd("file:///other", None, ("x-F", "x-I")))[name]
    assert said == "nothing of this history yet, lacks x-F, x-I (file:///other)"
    assert facts(second=SecondEnd("file:///other", None, because="it is away"))[name] == "not known (file:///other)"


def test_without_an_answer_there_is_nothing_to_show() -> None:
    assert evidence_facts({}) == []
