"""The unit is one that systemd understands, and exposes little; skipped where there is no systemd-analyze."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "contrib" / "systemd" / "backupd.service"

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that is there."""
    made = tmp_path / "backupd.service"
    made.write_text(UNIT.read_text().replace("/opt/backupd/bin/backupd", "/bin/true"))
    return made


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_understands_it(unit: Path) -> None:
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_it_exposes_little(unit: Path) -> None:
    done = analyze("security", "--offline=true", str(unit))
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze looks only at units that run")
    found = re.search(r"exposure level for backupd.service: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) < 2.5


def test_a_word_that_systemd_does_not_know_is_told(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("KillMode=", "KilMode="))
    assert "KilMode" in analyze("verify", "--man=no", str(unit)).stderr
