"""What init writes is valid as it stands and comes back as it was given."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.errors import ConfigInvalid, Refused
from backupd.policy.first import render_policy, render_service_config, write_first_files
from backupd.policy.load import load_setup

COPIES = {"a": "/data/app.db", "b": "/data/passive/app.db"}


def write(directory: Path, database: str = "orders", archive: str = "file:///backups", active: str = "a") -> list[Path]:
    copies = {name: path.replace("app.db", f"{database}.db") for name, path in COPIES.items()}
    return write_first_files(directory, database=database, copies=copies, active=active, archive=archive)


def test_the_first_files_load_and_are_private(tmp_path: Path) -> None:
    target = tmp_path / "new" / "conf"
    config, policy = write(target)
    setup = load_setup(config)
    loaded = setup.policies["orders"]
    assert loaded.warnings == ()
    assert {name: copy.path for name, copy in loaded.policy.copies.items()} == {
        "a": "/data/orders.db",
        "b": "/data/passive/orders.db",
    }
    assert loaded.policy.sqlite.first_active == "a"
    assert setup.config.state_dir == target / "state"
    assert stat.S_IMODE(policy.stat().st_mode) == stat.S_IMODE(config.stat().st_mode) == 0o600
    for directory in (tmp_path / "new", target, policy.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_second_database_keeps_the_config(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "backupd.toml").write_text('[service]\nnode = "mine"\n')
    assert write(tmp_path, "shop") == [tmp_path / "policies" / "shop.toml"]
    assert sorted(load_setup(tmp_path / "backupd.toml").policies) == ["orders", "shop"]
    assert load_setup(tmp_path / "backupd.toml").config.node == "mine"


def test_a_policy_is_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(Refused, match="is there already"):
        write(tmp_path)


@pytest.mark.parametrize(
    ("database", "archive", "active"),
    [("Orders", "file:///b", "a"), ("../x", "file:///b", "a"), ("orders", "b", "a"), ("orders", "file:///b", "c")],
)
def test_wrong_parameters_write_nothing(tmp_path: Path, database: str, archive: str, active: str) -> None:
    with pytest.raises(ConfigInvalid):
        write(tmp_path, database, archive, active)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigInvalid, match=r"(?i)not a directory|file exists"):
        write(tmp_path / "file")


PG_COPIES = {"a": "host=/run/pg port=5432", "b": "host=/run/pg port=5433"}
PG_PLACES = {"a": "/srv/pg/a", "b": "/srv/pg/b"}


def test_the_first_policy_of_a_postgres_pair_loads(tmp_path: Path) -> None:
    config, _ = write_first_files(
        tmp_path,
        database="ledger",
        engine="postgres",
        copies=PG_COPIES,
        data_directories=PG_PLACES,
        archive="file:///backups",
    )
    loaded = load_setup(config).policies["ledger"]
    assert loaded.warnings == ()
    copies = loaded.policy.copies
    assert {name: copy.conninfo for name, copy in copies.items()} == PG_COPIES
    assert {name: copy.place for name, copy in copies.items()} == PG_PLACES


def test_a_postgres_policy_without_its_places_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="data_directory"):
        write_first_files(tmp_path, database="ledger", engine="postgres", copies=PG_COPIES, archive="file:///backups")
    assert list(tmp_path.iterdir()) == []


texts = st.text(st.characters(codec="utf-8"), max_size=20)


@settings(max_examples=200, deadline=None)
@given(texts, texts, texts, texts)
def test_any_text_survives_the_file(database: str, path: str, archive: str, node: str) -> None:
    policy = tomllib.loads(render_policy(database=database, copies={path: path}, active=node, archive=archive))
    assert (policy["database"], policy["archive"]) == (database, archive)
    assert policy["copies"] == {path: {"path": path}}
    server = render_policy(
        database=database, engine="postgres", copies={path: path}, data_directories={path: node}, archive=archive
    )
    assert tomllib.loads(server)["copies"] == {path: {"conninfo": path, "data_directory": node}}
    assert tomllib.loads(render_service_config(state_dir=path, node=node))["service"]["node"] == node
