"""backupctl metrics: the numbers of a real pair, on the terminal and as a file that is whole."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="needs prometheus-client: pip install '.[service,test]'")
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.conftest import House


def test_the_numbers_of_a_real_pair(house: House) -> None:
    done = house.ctl("metrics")
    assert done.returncode == 0, done.stderr
    found = {family.name: family.samples for family in text_string_to_metric_families(done.stdout)}
    assert {sample.labels["type"] for sample in found["backupd_last_success_timestamp_seconds"]} == {
        "full",
        "incremental",
    }
    assert all(sample.value == 1 for sample in found["backupd_copy_healthy"])
    assert found["backupd_recovery_point_age_seconds"][0].value >= 0


def test_a_textfile_is_whole_and_readable_by_the_exporter(house: House, tmp_path: Path) -> None:
    file = tmp_path / "backupd.prom"
    assert house.ctl("metrics", "orders", "--textfile", str(file)).returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert file.read_text().endswith("\n")
    assert 'backupd_database_info{database="orders",engine="sqlite"} 1.0' in file.read_text()
    assert [one.name for one in tmp_path.iterdir()] == ["backupd.prom"]


def test_a_file_that_nobody_would_read_is_refused(house: House, tmp_path: Path) -> None:
    done = house.ctl("metrics", "--textfile", str(tmp_path / "backupd.txt"))
    assert done.returncode == 2
    assert "*.prom" in done.stderr


def test_a_directory_that_is_not_there_is_told(house: House, tmp_path: Path) -> None:
    done = house.ctl("metrics", "--textfile", str(tmp_path / "none" / "backupd.prom"))
    assert done.returncode == 7
    assert done.stderr.startswith("error: cannot write")
