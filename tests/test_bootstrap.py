"""A policy's words arrive at the engine and at the providers as they were written."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from backupd.bootstrap import open_house
from backupd.policy.first import render_policy, render_service_config

COPIES = {"a": "host=/run/pg port=5432", "b": "host=/run/pg port=5433"}
PLACES = {"a": "/srv/pg/a", "b": "/srv/pg/b"}


class Recorded:
    """Stands where the PostgreSQL writer stands, and keeps what it was made of."""

    engine = "postgres"
    last: dict[str, Any]

    def __init__(self, **facts: Any) -> None:
        Recorded.last = facts


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stand_in = types.ModuleType("backupd.engines.postgres.writer")
    stand_in.PostgresWriter = Recorded  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    (tmp_path / "policies").mkdir()
    (tmp_path / "backupd.toml").write_text(render_service_config())
    return tmp_path / "backupd.toml"


def write(config: Path, before: str = "", after: str = "") -> None:
    text = render_policy(
        database="ledger", engine="postgres", copies=COPIES, data_directories=PLACES, archive="file:///backups"
    )
    assert before in text
    (config.parent / "policies" / "ledger.toml").write_text(text.replace(before, after) if before else text + after)


def test_the_postgres_writer_gets_the_policy(config: Path) -> None:
    write(
        config,
        'slot = "backupd"',
        'slot = "held"\nbin_directory = "/opt/pg/bin"\nallow_remote_apply = true\nseed = "basebackup"\n'
        'server_seconds_max = "3min"',
    )
    write_more = config.parent / "policies" / "ledger.toml"
    text = write_more.read_text().replace('lag_bytes_max = "1GiB"', 'lag_bytes_max = "2GiB"')
    write_more.write_text(
        text + '[restore]\nstop_command = ["stop-it"]\nstart_command = ["start-it"]\ncheck = "full"\n'
    )
    house = open_house(config)
    context = house.context("ledger")
    house.close()
    assert context.engine == "postgres"
    facts = Recorded.last
    assert (facts["database"], facts["state_dir"]) == ("ledger", config.parent / "state" / "ledger")
    assert {name: (copy.name, copy.conninfo, copy.data_directory) for name, copy in facts["copies"].items()} == {
        name: (name, COPIES[name], Path(PLACES[name])) for name in COPIES
    }
    options = facts["options"]
    assert (options.slot, options.seed, options.bin_directory) == ("held", "basebackup", Path("/opt/pg/bin"))
    assert (options.lag_bytes_max, options.lag_seconds_max) == (2 << 30, 3600)
    assert (options.allow_remote_apply, options.server_seconds_max) == (True, 180)
    assert (facts["integrity"], facts["started_by_policy"]) == ("full", True)


def test_what_an_earlier_policy_left_is_looked_for_too(config: Path) -> None:
    write(config, 'provider = "auto"', 'provider = "live"')
    house = open_house(config)
    context = house.context("ledger")
    house.close()
    assert [one.name for one in context.providers] == ["btrfs", "reflink", "live", "paused"]
    assert context.choose_provider(config.parent).provider.name == "live"


def test_the_policy_s_own_commands_are_a_provider(config: Path) -> None:
    write(config, 'provider = "auto"', 'provider = "exec"')
    policy = config.parent / "policies" / "ledger.toml"
    commands = '[snapshot_command]\ntake = ["/no/such/program", "take"]\nrelease = ["/no/such/program", "release"]\n'
    policy.write_text(policy.read_text() + commands)
    house = open_house(config)
    context = house.context("ledger")
    house.close()
    with pytest.raises(Exception, match=r"exec: the command /no/such/program take did not work: No such file"):
        context.choose_provider(config.parent)


def test_a_server_has_nothing_that_backupd_replicates(config: Path) -> None:
    write(config)
    house = open_house(config)
    assert house.replicators() == ()
    house.close()


def test_the_house_knows_every_file_that_its_policies_are_written_in(config: Path) -> None:
    defaults = config.parent / "policies" / "defaults" / "common.toml"
    defaults.parent.mkdir()
    defaults.write_text("[freeze]\nseconds_max = 7\n")
    write(config)
    own = config.parent / "policies" / "ledger.toml"
    own.write_text('include = ["defaults/common.toml"]\n' + own.read_text())
    house = open_house(config)
    assert house.policy_files() == (own, defaults)
    assert house.context("ledger").policy.freeze.seconds_max == 7
