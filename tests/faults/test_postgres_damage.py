"""One flipped byte on the passive, in a data file or in the log: found, named, and nothing good is lost by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.demo.postgres_server import PgServer
from tests.faults.pg_house import BrokenHome, broken_home, oldest_segment
from tests.faults.pg_processes import three_lines
from tests.faults.test_postgres_runs import FULL, INCREMENTAL

pytestmark = pytest.mark.real
SEGMENT_BYTES = 16 << 20


@pytest.fixture(params=["paused", *(pytest.param(k, marks=[pytest.mark.slow, pytest.mark.root]) for k in ("btrfs",)),
                        pytest.param("live", marks=pytest.mark.slow)])  # fmt: skip
def home(request: pytest.FixtureRequest) -> Iterator[BrokenHome]:
    with broken_home(request.param) as made:
        made.forked_ok(*FULL)
        made.write()
        made.forked_ok(*INCREMENTAL)
        yield made


def _flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def _relation(server: PgServer, name: str) -> str:
    return server.psql(f"SELECT pg_relation_filepath('{name}')")


def _listed(home: BrokenHome) -> list[str]:
    told = json.loads(home.forked_ok("list", "orders", "--json").out)["backups"]
    return [each["id"] for each in told]


def test_a_flipped_byte_in_a_data_file(home: BrokenHome) -> None:
    pair = home.home.pair
    pair.wait_caught_up()
    passive = pair.passive
    where = _relation(pair.active, "pgbench_accounts")
    passive.stop()  # nothing of that page is in its memory afterwards
    _flip(passive.data / where, 7 * 8192 + 4000)
    passive.start()
    pair.wait_streaming()
    before = _listed(home)
    logs = {server.name: oldest_segment(server.data) for server in pair.servers}
    problem, because, next_step = three_lines(home.forked(*FULL), 6)
    assert "damaged" in problem
    assert where in because
    assert "block 7" in because
    assert "copy seed orders" in next_step
    # The older chain is there, prune keeps it, and no log goes.
    home.replays("damage")
    home.archive_is_whole("damage")
    told = home.home.status()
    assert {each["name"]: each["state"] for each in told["copies"]}[passive.name] == "suspect", told
    problem, because, _ = three_lines(home.forked(*INCREMENTAL), 7)
    assert "suspect" in problem + because
    home.home.write_policy(backup=f'provider = "{home.provider}"', retention="keep_fulls_min = 1")
    home.forked_ok("prune", "orders")
    assert _listed(home) == before
    assert json.loads(home.forked_ok("truncate", "orders", "--json").out)["state"] == "kept"
    assert {server.name: oldest_segment(server.data) for server in pair.servers} == logs
    home.restores("damage")
    # Seeded, it is as good as new.
    home.forked_ok("copy", "seed", "orders")
    home.goes_on("seeded")


@pytest.mark.slow
def test_a_flipped_byte_in_a_log_segment(home: BrokenHome) -> None:
    pair = home.home.pair
    pair.wait_caught_up()
    passive, rows = pair.passive, home.rows
    segno = int(pair.active.psql("SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 17, 8))::bit(32)::int"))
    home.write(200)
    pair.wait_caught_up()
    pair.active.psql("SELECT pg_switch_wal()")
    home.write(5)
    pair.wait_caught_up()
    path = passive.data / "pg_wal" / f"00000001{0:08X}{segno:08X}"
    content = path.read_bytes()
    _flip(path, 9000)
    before = _listed(home)
    problem, because, next_step = three_lines(home.forked(*INCREMENTAL), 6)
    assert path.name in problem + because, (problem, because, next_step)
    assert _listed(home) == before
    home.replays("damaged log")
    home.archive_is_whole("damaged log")
    assert json.loads(home.forked_ok("truncate", "orders", "--json").out)["state"] == "kept"
    assert (passive.data / "pg_wal" / path.name).exists()
    assert (pair.active.data / "pg_wal" / path.name).read_bytes() == content, "the active still has it whole"
    home.restores("what was before", rows=rows)
    home.forked_ok("copy", "seed", "orders")
    home.goes_on("seeded")
