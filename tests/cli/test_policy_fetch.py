"""policy fetch asks the repository now, and says what is in force; commands then use the fetched policies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from backupd.cli.main import run
from tests.cli.test_policy_diff import POLICY, git

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("BACKUPD_CONFIG", raising=False)
    origin = tmp_path / "origin"
    (origin / "policies").mkdir(parents=True)
    (origin / "policies/orders.toml").write_text(POLICY.format(name="orders"))
    git(origin, "init", "-q", "-b", "main")
    git(origin, "add", ".")
    git(origin, "commit", "-q", "-m", "one")
    path = tmp_path / "backupd.toml"
    path.write_text(f'[policies]\nrepository = "file://{origin}"\nevery = "1min"\n')
    return path


def test_fetch_brings_the_policies_that_the_other_commands_use(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", str(config)]
    assert run(["policy", "check", *words]) == 3
    assert "nothing was fetched yet" in capsys.readouterr().err
    assert run(["policy", "fetch", "--dry-run", *words]) == 0
    assert "would come into force" in capsys.readouterr().out
    assert run(["policy", "fetch", *words]) == 0
    assert "other policies are in force now" in capsys.readouterr().out
    assert run(["policy", "check", "--json", *words]) == 0
    assert [row["database"] for row in json.loads(capsys.readouterr().out)["files"]] == ["orders"]
    assert run(["policy", "fetch", "--json", *words]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["changed"], answer["problem"], answer["every_seconds"]) == (False, None, 60)
    assert answer["commit"] == git(config.parent / "origin", "rev-parse", "HEAD")


def test_what_is_refused_is_told_in_three_lines_with_the_status_of_its_kind(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = config.parent / "origin"
    (origin / "policies/orders.toml").write_text("database = 7\n")
    git(origin, "commit", "-q", "-a", "-m", "wrong")
    assert run(["policy", "fetch", "--config", str(config)]) == 3
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["error", "because", "next"]
    assert "policies/orders.toml:1: database: 7 is not text" in said.err
    assert "in force" in said.out
    shutil.rmtree(origin)
    assert run(["policy", "fetch", "--config", str(config)]) == 7


def test_the_commit_in_force_can_be_compared_with_another(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    origin = config.parent / "origin"
    words = ["--config", str(config)]
    (origin / "policies/orders.toml").write_text(POLICY.format(name="orders").replace("28", "27"))
    git(origin, "commit", "-q", "-a", "-m", "two")
    assert run(["policy", "fetch", *words]) == 0
    capsys.readouterr()
    assert run(["policy", "diff", "HEAD~1", "--offline", "--json", *words]) == 0
    (change,) = json.loads(capsys.readouterr().out)["databases"]
    assert change["keys"] == [{"place": "retention.keep_days", "old": "28", "new": "27"}]


def test_without_the_table_there_is_nothing_to_fetch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "backupd.toml").write_text("")
    assert run(["policy", "fetch", "--config", str(tmp_path / "backupd.toml")]) == 3
    assert "no table [policies]" in capsys.readouterr().err
