"""What the rooms below call DATABASE has its name by the time a person reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.cli import house
from backupd.errors import NotFound


def test_a_next_step_names_the_database_that_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "backupd.toml"
    config.write_text('[service]\nstate_dir = "state"\npolicies_dir = "policies"\n')
    monkeypatch.setattr(house, "_meant", ["orders"])
    failure = NotFound("nothing", because="no log of DATABASE", next_step="backupctl copy seed DATABASE")
    with pytest.raises(NotFound) as found, house.opened(str(config)):
        raise failure
    assert found.value.lines()[1:] == ["because: no log of orders", "next: backupctl copy seed orders"]
