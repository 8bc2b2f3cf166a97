"""What is installed has the templates and the static files of the page."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="needs hatchling, which builds the wheel")

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_the_wheel_has_the_pages_files(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    web = ROOT / "backupd" / "service" / "web"
    files = {str(path.relative_to(ROOT)) for part in ("templates", "static") for path in (web / part).iterdir()}
    assert files
    assert files <= inside
