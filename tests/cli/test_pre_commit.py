"""What contrib/pre-commit has works as it stands: the hook in a real repository, the words of the others in the app."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from backupd.cli.main import app, run
from tests.cli.test_policy_diff import POLICY, edit, git

ROOT = Path(__file__).parents[2]
SHOWN = ROOT / "contrib" / "pre-commit"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = tmp_path / "repository"
    (made / "policies").mkdir(parents=True)
    (made / "defaults").mkdir()
    (made / "defaults/common.toml").write_text("[retention]\nkeep_fulls_min = 2\n")
    (made / "policies/orders.toml").write_text('include = ["../defaults/common.toml"]\n' + POLICY.format(name="orders"))
    git(made, "init", "-q", "-b", "main")
    return made


def committed(repository: Path) -> subprocess.CompletedProcess[str]:
    """A commit as a person makes it, with backupctl on the path."""
    programs = repository.parent / "bin"
    programs.mkdir(exist_ok=True)
    script = f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m backupd.cli.main "$@"\n'
    (programs / "backupctl").write_text(script)
    (programs / "backupctl").chmod(0o755)
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", "-C", str(repository), *identity, "commit", "-q", "-m", "change"],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_hook_lets_good_policies_pass_and_judges_what_is_staged(repository: Path) -> None:
    shutil.copy(SHOWN / "pre-commit", repository / ".git/hooks/pre-commit")
    git(repository, "add", ".")
    done = committed(repository)
    assert done.returncode == 0, done.stderr
    edit(repository / "defaults/common.toml", "keep_fulls_min", "keep_fulls_mini")
    git(repository, "add", ".")
    edit(repository / "defaults/common.toml", "keep_fulls_mini", "keep_fulls_min")
    refused = committed(repository)
    assert refused.returncode == 1
    assert "defaults/common.toml:2: retention.keep_fulls_mini: there is no such key" in refused.stderr
    git(repository, "add", ".")
    edit(repository / "policies/orders.toml", "keep_days", "what_is_not_staged_is_not_judged")
    (repository / "README.md").write_text("changed")
    git(repository, "add", "README.md")
    assert committed(repository).returncode == 0


def commands() -> Iterator[tuple[str, str]]:
    for path in sorted(SHOWN.iterdir()):
        for line in path.read_text().splitlines():
            if match := re.search(
                r"(?:^|entry: |- )\s*(?:if ! said=\$\()?(backupctl [^|`)]+?)(?: 2>&1| \|\| true|\)|$)", line
            ):
                yield path.name, match[1]


def test_every_shown_command_is_one_that_the_app_takes() -> None:
    found = list(commands())
    files = {name for name, _ in found}
    assert {".pre-commit-hooks.yaml", "pre-commit-config.yaml", "pre-commit", "github-actions.yml"} <= files
    assert "gitlab-ci.yml" in files
    group = typer.main.get_command(app)
    for _, command in found:
        words = shlex.split(command)[1:]
        verb = group.commands["policy"].commands[words[1]]  # type: ignore[attr-defined]
        verb.make_context(words[1], words[2:])


def test_the_files_of_others_are_what_those_can_read() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    (hook,) = yaml.safe_load((SHOWN / ".pre-commit-hooks.yaml").read_text())
    (repo,) = yaml.safe_load((SHOWN / "pre-commit-config.yaml").read_text())["repos"]
    assert hook["id"] == repo["hooks"][0]["id"]
    assert hook["entry"] == repo["hooks"][0]["entry"]
    assert not hook["pass_filenames"]
    assert yaml.safe_load((SHOWN / "github-actions.yml").read_text())["jobs"]["check"]["steps"]
    assert yaml.safe_load((SHOWN / "gitlab-ci.yml").read_text())["policies"]["script"]


def test_github_finds_the_file_and_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matcher = json.loads((SHOWN / "github-matcher.json").read_text())["problemMatcher"][0]["pattern"][0]
    path = tmp_path / "orders.toml"
    path.write_text(POLICY.format(name="orders") + "keep_dayz = 1\n")
    assert run(["policy", "check", str(path)]) == 3
    found = [match for line in capsys.readouterr().out.splitlines() if (match := re.match(matcher["regexp"], line))]
    assert [(match[matcher["file"]], match[matcher["line"]]) for match in found] == [(str(path), "13")]
