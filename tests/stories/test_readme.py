"""Every command of README.md's first hour is true: they are run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backupd.engines.postgres.rights import rights_for

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_HOUR = re.findall(r"^```sh first-hour\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands_on_the_path(directory: Path) -> str:
    """``backupd`` and ``backupctl`` of this tree, whether it is installed or not; answers with a PATH."""
    directory.mkdir()
    for name, module in (("backupd", "backupd.service.main"), ("backupctl", "backupd.cli.main")):
        command = directory / name
        command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m {module} "$@"\n')
        command.chmod(0o755)
    (directory / "python3").symlink_to(sys.executable)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.slow
def test_the_first_hour(tmp_path: Path) -> None:
    script = "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "\n".join(FIRST_HOUR)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BACKUPD_")}
    environment["PATH"] = commands_on_the_path(tmp_path / "bin")
    answer = subprocess.run(
        ["bash", "-c", script], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    log = tmp_path / "first-hour" / "backupd.log"
    told = f"{answer.stdout}\n{answer.stderr}\n{log.read_text() if log.exists() else ''}"
    assert answer.returncode == 0, told
    assert answer.stdout.count("(10001,)") == 2, told
    assert answer.stdout.isascii(), told
    assert "will be lost" in answer.stdout
    assert "backupd stops" in log.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "first-hour"}


def test_the_first_hour_has_its_steps() -> None:
    script = "\n".join(FIRST_HOUR)
    for step in ("init .", "backupd 2>", "check", "backup orders --type full", "status", "--target look", "--at"):
        assert step in script


def test_every_command_of_the_readme_is_one_of_the_apps() -> None:
    from backupd.cli.main import VERBS

    named = set(re.findall(r"backupctl ([a-z]+)", README))
    assert named <= set(VERBS)


def test_the_rights_of_the_role_are_those_that_a_run_needs() -> None:
    (told,) = re.findall(r"^```sql\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    needed = [f"{right.grant};" for right in rights_for("backupd", 16, "postgres")]
    assert told.splitlines() == ['CREATE ROLE "backupd" LOGIN;', *needed]
