"""The active is read when the policy lets it stand in: what is made so is whole, says so, and is finished later."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.pg_house import BrokenHome, broken_home
from tests.faults.pg_processes import three_lines
from tests.faults.test_postgres_runs import FULL, INCREMENTAL

pytestmark = pytest.mark.real
PREFER = {"source": 'rule = "prefer-passive"\nwait_seconds_max = "1s"', "stamp": 'timeout_seconds = "5s"'}


@pytest.fixture(scope="module")
def home() -> Iterator[BrokenHome]:
    with broken_home("live", tables=PREFER) as home:
        home.forked_ok(*FULL)
        yield home


@contextlib.contextmanager
def flipped(path: Path, offset: int) -> Iterator[None]:
    """A byte is another one for a while."""
    with path.open("r+b", buffering=0) as file:
        good = os.pread(file.fileno(), 1, offset)
        os.pwrite(file.fileno(), bytes([good[0] ^ 0x10]), offset)
        try:
            yield
        finally:
            os.pwrite(file.fileno(), good, offset)


@pytest.mark.slow
def test_a_full_of_the_active_is_whole_and_completed_when_the_passive_is_back(home: BrokenHome) -> None:
    pair = home.home.pair
    home.write()
    pair.passive.stop()
    load = pair.active.start_pgbench("-c", 2, "-T", 60, "-R", 100)
    try:
        answer = home.forked(*FULL, "--json")
    finally:
        load.terminate()
        load.wait(30)
    assert answer.status == 0, answer.told()
    assert (answer.json["state"], answer.json["source_role"]) == ("pending", "active"), answer.told()
    assert answer.json["source_copy"] == pair.active.name
    assert any("it pays for this backup" in note for note in answer.json["notes"]), answer.told()
    home.archive_is_whole("read from the active")
    home.restores("read from the active")

    problem, because, _ = three_lines(home.forked(*INCREMENTAL), 7)
    assert "the active cannot stand in for what was asked for" in because, problem
    planned = home.forked(*FULL, "--dry-run", "--json").json
    assert planned["source_role"] == "active"

    again = home.forked(*FULL, "--json")
    assert again.json["state"] == "pending", "one that waits for its stamp is not in the next one's way"

    pair.passive.start()
    pair.wait_streaming()
    found = home.goes_on("the passive is back")
    assert (found["type"], found["source_role"]) == ("incremental", "passive")
    assert any(f"it builds on the full {again.json['id']}" in note for note in found["notes"]), found["notes"]
    listed = json.loads(home.forked_ok("list", "orders", "--json").out)["backups"]
    assert {each["state"] for each in listed} == {"complete"}


def test_what_goes_wrong_while_the_active_is_read_is_no_role_change(home: BrokenHome) -> None:
    """And a slot that was lost with the passive is made anew, for the backup mode itself holds no log."""
    pair = home.home.pair
    slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'backupd'"
    pair.passive.stop()
    pair.active.psql("SELECT pg_drop_replication_slot('backupd')")
    try:
        answer = home.begin(*FULL, BACKUPD_FAULT="fail:1@pg.backup_mode.start", BACKUPD_FAULT_ROLE="run").ended()
        problem, _, _ = three_lines(answer, 7)
        assert "roles changed" not in problem
        assert pair.active.psql(slots) == "1"
        home.archive_is_whole("the backup mode failed")
    finally:
        pair.passive.start()
        pair.wait_streaming()
    home.judge("the backup mode failed", restore=False)


def test_a_healthy_passive_is_preferred(home: BrokenHome) -> None:
    found = home.goes_on("both are well", kind="full", restore=False)
    assert found["source_role"] == "passive"


def test_a_bad_page_of_the_active_is_named_and_no_passive_suspected(home: BrokenHome) -> None:
    pair = home.home.pair
    pair.passive.stop()
    try:
        where = pair.active.psql("SELECT pg_relation_filepath('pgbench_accounts')")
        pair.active.psql("CHECKPOINT")
        with flipped(pair.active.data / where, 7 * 8192 + 4000):
            problem, because, _ = three_lines(home.forked(*FULL), 6)
        assert problem == "the active copy of orders is damaged"
        assert where in because
        assert "block 7" in because
    finally:
        pair.passive.start()
        pair.wait_streaming()
    home.judge("the active was mended", restore=False)
