"""What a drill leaves in an encrypted archive: that it was, when and how long; what was answered only for a key."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from backupd.archive.keys import ArchiveKeys
from backupd.decide.restore_wish import RestoreWish
from backupd.errors import DamageFound
from backupd.model.drill import CheckAnswer, Phase
from backupd.model.records import BackupType
from backupd.runs.backup import run_backup
from backupd.runs.drill_verdict import Found, drill_facts, drill_verdict
from backupd.runs.restore_plan import plan_restore
from tests.runs.world import World

pyrage = pytest.importorskip("pyrage")


def test_no_content_lies_in_an_encrypted_archive_in_clear(world: World, tmp_path: Path) -> None:
    run_backup(world.context(), BackupType.FULL)
    context = world.context()
    plan = plan_restore(context, RestoreWish.latest(), str(tmp_path / "out"))
    records = {one.record.id: one.record for one in context.archive().list().backups}
    identity = pyrage.x25519.Identity.generate()
    found = Found(
        phase=Phase.OWN_CHECKS,
        failure=DamageFound("a check fails: names", because="salary of Alice", next_step="look"),
        notes=["index salaries_by_name is odd"],
        checks=[CheckAnswer("names", passed=False, says="it answered another value than the expected one")],
        answers={"names": "Alice earns 4711"},
    )
    now = context.clock.now()
    for recipients in ((str(identity.to_public()),), ()):
        keys = ArchiveKeys(recipients)
        facts = drill_facts(found, plan, records, keys, run="r", host="h", started_at=now)
        text = json.dumps(drill_verdict(found, plan, records, facts, now).to_json())
        for word in ("Alice", "4711", "salar"):
            assert (word in text) is not bool(recipients), word
        assert "a check fails: names" in text
        if recipients:
            sealed = json.loads(pyrage.decrypt(base64.b64decode(facts.sealed), [identity]))
            assert sealed["answers"] == {"names": "Alice earns 4711"}
            assert "salary of Alice" in sealed["failure"]
            assert sealed["notes"] == ["index salaries_by_name is odd"]
