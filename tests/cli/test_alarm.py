"""alarms and alarm test: what stands, who was told, and who would hear; no address is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backupd.cli.main import run
from backupd.model.alarm import Alarm
from backupd.policy.alarms import AlarmOptions
from backupd.service.alarms import AlarmTeller
from tests.fakes import FakeClock
from tests.service.peers import web_peer

SECRET = "s3cr3t-t0ken"


def config(tmp_path: Path, alarms: str) -> str:
    path = tmp_path / "backupd.toml"
    path.write_text(f'[service]\nnode = "n1"\n{alarms}')
    (tmp_path / "state").mkdir()
    return str(path)


def test_says_for_each_target_whether_it_took_the_test_and_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = config(tmp_path, '[alarms]\ntargets = ["env:GOOD", "env:BAD"]\n[alarms.ping]\nurl = "env:PING"\n')
    with web_peer() as good, web_peer() as bad:
        bad.mood = "500"
        monkeypatch.setenv("GOOD", f"json://127.0.0.1:{good.port}/{SECRET}")
        monkeypatch.setenv("BAD", f"json://127.0.0.1:{bad.port}/{SECRET}")
        monkeypatch.setenv("PING", f"http://127.0.0.1:{good.port}/{SECRET}")
        assert run(["alarm", "test", "--json", "--config", place]) == 0
        said = capsys.readouterr().out
        assert [(one["target"], one["taken"]) for one in json.loads(said)["targets"]] == [
            ("env:GOOD", True),
            ("env:BAD", False),
            ("env:PING", True),
        ]
        assert "500" in json.loads(said)["targets"][1]["because"]
        good.mood = "500"
        assert run(["alarm", "test", "--config", place]) == 8
        said += capsys.readouterr().out
    assert SECRET not in said


def test_nobody_to_tell_is_said_and_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["alarm", "test", "--config", config(tmp_path, "")]) == 8
    assert "nobody is told" in capsys.readouterr().out


def test_a_url_in_the_config_is_refused_and_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = config(tmp_path, f'[alarms]\ntargets = ["json://{SECRET}@host/"]\n')
    assert run(["alarm", "test", "--config", place]) == 3
    assert SECRET not in capsys.readouterr().err


def test_what_stands_is_listed_with_who_was_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = config(tmp_path, "")
    assert run(["alarms", "--config", place]) == 0
    assert "no alarms stand" in capsys.readouterr().out
    fire = Alarm("orders", "fire", "it burns", next_step="backupctl check orders")
    teller = AlarmTeller(AlarmOptions(after_seconds=0.0), tmp_path / "state", FakeClock(), "n1")
    teller.tick([fire])
    assert run(["alarms", "--json", "--config", place]) == 0
    (row,) = json.loads(capsys.readouterr().out)["alarms"]
    assert (row["code"], set(row["told"])) == ("fire", {"log"})
    assert run(["alarms", "--config", place]) == 0
    assert "it burns" in capsys.readouterr().out
