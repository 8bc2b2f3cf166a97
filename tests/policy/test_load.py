"""Config and policies are found and read; what is wrong is said in three lines, all of it at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backupd.errors import ConfigInvalid, NotFound
from backupd.policy.first import render_policy, render_service_config
from backupd.policy.load import find_config, load_policies, load_policy, load_policy_of, load_service_config, load_setup


def write_policy(directory: Path, database: str, file_name: str | None = None, **changes: str) -> Path:
    text = render_policy(
        database=database,
        copies={"a": str(directory / f"{database}.db"), "b": str(directory / "passive" / f"{database}.db")},
        active="a",
        archive="file:///backups",
    )
    for before, after in changes.items():
        text = text.replace(before, after)
    path = directory / (file_name or f"{database}.toml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_config_is_found_by_option_then_by_environment(tmp_path: Path) -> None:
    config = tmp_path / "backupd.toml"
    config.write_text(render_service_config())
    assert find_config(config, {"BACKUPD_CONFIG": "/nowhere"}) == config
    assert find_config(None, {"BACKUPD_CONFIG": str(config)}) == config
    assert find_config(tmp_path, {}) == config


def test_no_config_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        find_config(None, {})
    assert caught.value.because == "there is neither --config nor BACKUPD_CONFIG"
    with pytest.raises(ConfigInvalid) as caught:
        find_config(tmp_path / "backupd.toml", {})
    assert caught.value.next_step == f"backupctl init {tmp_path} writes a first one"


def test_paths_of_the_config_start_at_its_directory(tmp_path: Path) -> None:
    config = tmp_path / "backupd.toml"
    config.write_text('[service]\nstate_dir = "/var/lib/backupd"\nnode = "left"\n')
    loaded = load_service_config(config)
    assert loaded.state_dir == Path("/var/lib/backupd")
    assert loaded.policies_dir == tmp_path / "policies"
    assert loaded.node == "left"


def test_an_empty_config_is_enough(tmp_path: Path) -> None:
    config = tmp_path / "backupd.toml"
    config.write_text("")
    assert load_service_config(config).node


def test_a_misspelt_config_key_is_named(tmp_path: Path) -> None:
    config = tmp_path / "backupd.toml"
    config.write_text('[service]\nstatedir = "x"\n')
    with pytest.raises(ConfigInvalid, match=r"did you mean service\.state_dir\?"):
        load_service_config(config)


def test_a_setup_has_every_policy_by_database(tmp_path: Path) -> None:
    (tmp_path / "backupd.toml").write_text(render_service_config())
    write_policy(tmp_path / "policies", "orders")
    write_policy(tmp_path / "policies", "shop")
    setup = load_setup(tmp_path / "backupd.toml")
    assert sorted(setup.policies) == ["orders", "shop"]
    assert setup.policies["orders"].warnings == ()


def test_two_policies_of_one_database_are_refused(tmp_path: Path) -> None:
    write_policy(tmp_path, "orders")
    write_policy(tmp_path, "orders", "other.toml")
    with pytest.raises(ConfigInvalid, match=r"orders\.toml is the policy of orders already"):
        load_policies(tmp_path)


def test_two_databases_never_share_a_file(tmp_path: Path) -> None:
    """The seed of one would replace the other."""
    write_policy(tmp_path, "orders")
    text = write_policy(tmp_path, "shop").read_text()
    (tmp_path / "shop.toml").write_text(text.replace("passive/shop.db", "orders.db"))
    with pytest.raises(ConfigInvalid, match=r"orders\.db \(copy b\) is copy a of orders already"):
        load_policies(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_config_in_a_closed_directory_is_told_in_three_lines(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        find_config(closed / "backupd.toml", {})


def test_every_problem_of_every_file_is_listed(tmp_path: Path) -> None:
    write_policy(tmp_path, "orders", keep_days="keep_day")
    write_policy(tmp_path, "shop", enabled="enable")
    with pytest.raises(ConfigInvalid) as caught:
        load_policies(tmp_path)
    places = [problem["place"] for problem in caught.value.details["problems"]]
    assert places == ["retention.keep_day", "truncation.enable"]
    assert all(problem["line"] for problem in caught.value.details["problems"])


def test_a_file_name_that_is_not_the_database_is_only_a_warning(tmp_path: Path) -> None:
    loaded = load_policy(write_policy(tmp_path, "orders", "x.toml"))
    assert loaded.warnings == ("x.toml is the policy of orders; orders.toml would be easier to find",)


def test_another_database_s_problem_does_not_stop_this_one(tmp_path: Path) -> None:
    (tmp_path / "backupd.toml").write_text(render_service_config())
    config = load_service_config(tmp_path / "backupd.toml")
    write_policy(config.policies_dir, "orders")
    write_policy(config.policies_dir, "shop", keep_days="keep_day")
    assert load_policy_of(config, "orders").policy.database == "orders"
    with pytest.raises(ConfigInvalid, match="keep_day"):
        load_policy_of(config, "shop")
    write_policy(config.policies_dir, "till", "odd-name.toml", keep_days="keep_day")
    with pytest.raises(ConfigInvalid, match=r"odd-name\.toml"):
        load_policy_of(config, "till")
    with pytest.raises(NotFound, match="orders") as caught:
        load_policy_of(config, "nope")
    assert caught.value.exit_status == 5


def test_two_policies_stop_their_own_database_only(tmp_path: Path) -> None:
    (tmp_path / "backupd.toml").write_text(render_service_config())
    config = load_service_config(tmp_path / "backupd.toml")
    write_policy(config.policies_dir, "orders", "first.toml")
    write_policy(config.policies_dir, "orders", "second.toml")
    write_policy(config.policies_dir, "shop")
    assert load_policy_of(config, "shop")
    with pytest.raises(ConfigInvalid, match="a database has one policy"):
        load_policy_of(config, "orders")


def test_a_missing_policies_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="no such file or directory"):
        load_policies(tmp_path / "none")


def test_an_unreadable_policy_says_so(tmp_path: Path) -> None:
    path = write_policy(tmp_path, "orders")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything; a directory is unreadable for root too
        path.unlink()
        path.mkdir()
    with pytest.raises(ConfigInvalid, match=r"it cannot be read: (permission denied|is a directory)"):
        load_policy(path)


def test_bytes_that_are_not_text_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "orders.toml"
    path.write_bytes(b'database = "orders"\nengine = "\xff"\n')
    with pytest.raises(ConfigInvalid, match=r"orders\.toml:2: it is not UTF-8"):
        load_policy(path)


def test_a_huge_file_and_a_deep_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "orders.toml"
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ConfigInvalid, match="over 1 MiB"):
        load_policy(path)
    path.write_text("x = " + "[" * 100_000)
    with pytest.raises(ConfigInvalid, match="not TOML"):
        load_policy(path)


def test_two_names_of_one_data_directory_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pg").mkdir()
    (tmp_path / "also").symlink_to(tmp_path / "pg")
    path = tmp_path / "ledger.toml"
    places = {"a": str(tmp_path / "pg"), "b": str(tmp_path / "also")}
    copies = {"a": "port=1", "b": "port=2"}
    path.write_text(
        render_policy(
            database="ledger", engine="postgres", copies=copies, data_directories=places, archive="file:///backups"
        )
    )
    with pytest.raises(ConfigInvalid, match="are one directory under two names"):
        load_policy(path)


@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_two_names_of_one_file_are_refused(tmp_path: Path, link: str) -> None:
    path = write_policy(tmp_path, "orders")
    active, passive = tmp_path / "orders.db", tmp_path / "passive" / "orders.db"
    active.write_bytes(b"x")
    passive.parent.mkdir()
    if link == "hard":
        passive.hardlink_to(active)
    else:
        passive.symlink_to(active)
    with pytest.raises(ConfigInvalid, match="are one file under two names"):
        load_policy(path)


def test_importing_the_loader_does_not_import_pydantic() -> None:
    code = (
        "import sys, backupd.policy.load, backupd.policy.first, backupd.policy.git; sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SECOND = '[second_archive]\nurl = "file:///second"\n\n[retention]'


@pytest.mark.parametrize(
    ("orders", "shop", "says"),
    [
        ({"[retention]": SECOND}, {"file:///backups": "file:///second"}, "is the second archive of orders"),
        ({"file:///backups": "file:///second"}, {"[retention]": SECOND}, "is the archive of orders"),
        (
            {"[retention]": SECOND},
            {"file:///backups": "file:///others", "[retention]": SECOND},
            "is the second archive of orders already",
        ),
    ],
)
def test_a_place_cannot_be_a_second_archive_and_something_else(
    tmp_path: Path, orders: dict[str, str], shop: dict[str, str], says: str
) -> None:
    write_policy(tmp_path, "orders", **orders)
    write_policy(tmp_path, "shop", **shop)
    with pytest.raises(ConfigInvalid, match=says):
        load_policies(tmp_path)


def test_two_databases_may_share_both_archives(tmp_path: Path) -> None:
    write_policy(tmp_path, "orders", **{"[retention]": SECOND})
    write_policy(tmp_path, "shop", **{"[retention]": SECOND})
    assert sorted(load_policies(tmp_path)) == ["orders", "shop"]


def test_two_names_of_one_directory_are_no_two_archives(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    second = f'[second_archive]\nurl = "file://{tmp_path / "link"}"\n\n[retention]'
    path = write_policy(tmp_path, "orders", **{"file:///backups": f"file://{tmp_path / 'real'}", "[retention]": second})
    with pytest.raises(ConfigInvalid, match="one directory under two names"):
        load_policy(path)


def test_what_another_file_names_is_seen_also_when_only_one_policy_is_wanted(tmp_path: Path) -> None:
    """A command about one database judges only its own file, and skims the others for what two must not share."""
    (tmp_path / "backupd.toml").write_text(render_service_config())
    config = load_service_config(tmp_path / "backupd.toml")
    write_policy(config.policies_dir, "orders")
    shop = write_policy(config.policies_dir, "shop")
    assert load_policy_of(config, "shop").policy.database == "shop"
    shop.write_text(shop.read_text().replace("passive/shop.db", "passive/../orders.db"))
    with pytest.raises(ConfigInvalid, match=r"orders\.db \(copy b\) is copy a of orders already"):
        load_policy_of(config, "shop")
    assert load_policy_of(config, "orders").policy.database == "orders"
    write_policy(config.policies_dir, "orders", "more.toml")
    with pytest.raises(ConfigInvalid, match="a database has one policy"):
        load_policy_of(config, "orders")
