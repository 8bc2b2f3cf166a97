"""The verbs on a real pair: the JSON that scripts rely on, and the refusals."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import House, environment

ROW = {
    *("id", "database", "type", "state", "source_copy", "source_role", "started_at", "finished_at", "log_start"),
    *("log_end", "frozen_seconds", "read_bytes", "stored_bytes", "checked_pages", "policy_commit", "truncation"),
}


def answer(house: House, *words: str, status: int = 0) -> Any:
    done = house.ctl(*words, "--json")
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def three_lines(text: str) -> list[str]:
    lines = text.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "because", "next"], text
    return lines


def test_list_and_show_have_the_keys_of_a_backup(house: House) -> None:
    rows = answer(house, "list")["backups"]
    assert [row["type"] for row in rows[:2]] == ["full", "incremental"]
    for row in rows:
        assert set(row) >= ROW
        assert set(row["truncation"]) == {"state", "before", "blocked_by"}
        shown = answer(house, "show", row["id"])
        assert set(shown) > ROW
        assert {name: shown[name] for name in ROW} == {name: row[name] for name in ROW}
    assert rows[0]["source_role"] == "passive"
    assert rows[0]["frozen_seconds"] > 0
    assert rows[0]["checked_pages"] > 0


def test_status_has_its_keys(house: House) -> None:
    (database,) = answer(house, "status")["databases"]
    named = {"name", "engine", "copies", "last_full", "last_incremental", "recovery_window", "alarms"}
    assert set(database) >= named
    assert set(database["recovery_window"]) >= {"from", "to"}
    assert [copy["role"] for copy in database["copies"]] == ["active", "passive"]
    queues = {"copy_queue_logs", "replay_queue_logs", "held_log_bytes"}
    for copy in database["copies"]:
        assert set(copy) >= {"name", "role", "state"} | queues
        assert copy["state"] == "healthy"


READS = [
    ["status"],
    ["list"],
    ["list", "orders", "--failed"],
    ["timeline", "orders"],
    ["timeline", "orders", "--commits", "--from", "1 h ago"],
    ["check"],
    ["holds"],
    ["verify", "--level", "manifest"],
    ["verify"],
    ["verify", "orders"],
    ["policy", "check"],
    ["policy", "plan"],
    ["explain", "truncation", "orders"],
    ["explain", "retention", "orders"],
    ["explain", "schedule", "orders"],
    ["backup", "orders", "--type", "differential", "--dry-run"],
    ["truncate", "orders", "--dry-run"],
    ["prune", "--dry-run"],
    ["holds", "orders"],
    ["recover", "--dry-run"],
    ["restore", "orders", "--dry-run"],
    ["copy", "suspend", "orders", "--dry-run"],
    ["copy", "resume", "orders", "--dry-run"],
    ["copy", "seed", "orders", "--dry-run"],
]


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_a_pipe_gets_plain_words_or_json(words: list[str], house: House) -> None:
    said = house.ctl(*words)
    assert said.returncode == 0, said.stderr
    assert said.stderr == ""
    assert said.stdout.isascii()
    assert "\x1b" not in said.stdout
    assert isinstance(answer(house, *words), dict)


def test_dry_runs_change_nothing(house: House) -> None:
    before = answer(house, "list")
    for words in READS:
        if "--dry-run" in words:
            assert house.ctl(*words).returncode == 0
    assert answer(house, "list") == before
    assert answer(house, "status")["databases"][0]["copies"][1]["state"] == "healthy"


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["status", "order"], 5, "did you mean orders?"),
        (["backup", "order"], 5, "did you mean orders?"),
        (["show", "nothing"], 5, "nothing"),
        (["verify", "order"], 5, "did you mean orders?"),
        (["verify", "orders", "20200101T000000Z-F-00000000"], 5, "20200101T000000Z-F-00000000"),
        (["verify", "20200101T000000Z-F-00000000"], 5, "20200101T000000Z-F-00000000"),
        (["restore", "orders"], 4, "--yes"),
        (["restore", "orders", "--target", "b", "--yes"], 4, "passive"),
        (["restore", "orders", "--at", "2001-01-01T00:00:00Z", "--yes"], 5, "what can be restored"),
        (["restore", "orders", "--backup", "nothing", "--yes"], 5, "nothing"),
    ],
)
def test_refusals(words: list[str], status: int, says: str, house: House) -> None:
    said = house.ctl(*words)
    assert said.returncode == status, said.stderr
    assert says in "\n".join(three_lines(said.stderr))
    assert answer(house, *words, status=status)["error"]["exit_status"] == status


def test_a_restore_into_a_directory_is_private_and_whole(house: House, tmp_path: Path) -> None:
    target = tmp_path / "look"
    told = answer(house, "restore", "orders", "--target", str(target))
    assert told["fetched_pages"] > 0
    restored = target / "app.db"
    assert stat.S_IMODE(restored.stat().st_mode) == 0o600
    with sqlite3.connect(f"file:{restored}?mode=ro", uri=True) as look:
        assert look.execute("select count(*) from orders").fetchone() == (2000,)


def test_a_second_service_is_refused(house: House) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "backupd.service.main", "--config", str(house.config)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 9
    assert str(house.service.pid) in three_lines(second.stderr)[2]


def test_status_and_list_answer_without_the_heavy_libraries(house: House) -> None:
    program = (
        "import sys; from backupd.cli.main import run; "
        f"assert run(['status', '--config', {str(house.config)!r}]) == 0; "
        "print([name for name in ('numpy', 'zstandard', 'boto3', 'rich') if name in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines()[-1] == "[]"


def test_the_service_is_small(house: House) -> None:
    status = Path(f"/proc/{house.service.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident < 64 * 1024  # KiB; measured 34 MiB


@pytest.mark.parametrize(
    ("typed", "because"),
    [(b"y\n", "was not orders"), (b"yes\n", "was not orders"), (b"\n", "was not orders"), (b"\x04", "was not orders")],
)
def test_on_a_terminal_a_restore_over_live_data_wants_the_database_s_name(
    typed: bytes, because: str, house: House
) -> None:
    before = house.active.read_bytes()
    keyboard, terminal = os.openpty()
    os.write(keyboard, typed)
    try:
        said = subprocess.run(
            [sys.executable, "-m", "backupd.cli.main", "restore", "orders", "--config", str(house.config)],
            env=environment(),
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert said.returncode == 4, said.stderr
    assert said.stderr.startswith(f"to overwrite {house.active}, type the name of the database (orders): ")
    assert because in said.stderr
    assert "will be lost" in said.stdout or "nothing is lost" in said.stdout
    assert house.active.read_bytes() == before


def test_damage_is_named_with_status_6(house: House, tmp_path: Path) -> None:
    """One byte of a segment is flipped; the bytes are put back afterwards, for the other tests' sake."""
    segment = next(house.directory.glob("backups/db/*/data/*/*"))
    good = segment.read_bytes()
    segment.chmod(0o600)
    try:
        segment.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
        said = house.ctl("verify", segment.parent.name)
        assert said.returncode == 6
        assert "DAMAGED" in said.stdout
        assert segment.name in three_lines(said.stderr)[1]
        told = answer(house, "verify", segment.parent.name, status=6)
        assert told["sound"] is False
    finally:
        segment.write_bytes(good)
    assert house.ctl("verify", segment.parent.name).returncode == 0
