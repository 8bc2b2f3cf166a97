"""policy diff compares the folder with a commit or a directory, in words and in JSON, and changes nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from backupd.cli.main import run
from tests.cli.conftest import House

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

POLICY = """\
database = "{name}"
engine = "sqlite"
archive = "file:///backups/{name}"
[copies.a]
path = "/data/{name}.db"
[copies.b]
path = "/data/passive/{name}.db"
[schedule]
full = "sun 02:00"
incremental = "mon..sat 02:00"
[retention]
keep_days = 28
"""


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(directory), *identity, *arguments], capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two policies and a file of defaults, all in one commit."""
    monkeypatch.delenv("BACKUPD_CONFIG", raising=False)
    policies = tmp_path / "repository" / "policies"
    (policies.parent / "defaults").mkdir(parents=True)
    policies.mkdir()
    (policies.parent / "defaults/common.toml").write_text("[freeze]\nseconds_max = 10\n")
    for name in ("orders", "shop"):
        text = 'include = ["../defaults/common.toml"]\n' + POLICY.format(name=name)
        (policies / f"{name}.toml").write_text(text)
    git(policies.parent, "init", "-q", "-b", "main")
    git(policies.parent, "add", ".")
    git(policies.parent, "commit", "-q", "-m", "one")
    return policies


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def diffed(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> dict[str, Any]:
    assert run(["policy", "diff", *words, "--policies", str(folder), "--offline", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_nothing_changes_when_nothing_has_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert diffed(capsys, folder)["databases"] == []
    assert run(["policy", "diff", "--policies", str(folder), "--offline"]) == 0
    assert "nothing changes" in capsys.readouterr().out


def test_a_changed_key_shows_both_values_and_the_slots(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder / "orders.toml", "sun 02:00", "sat 23:00")
    edit(folder / "orders.toml", "keep_days = 28", 'keep_within = "4d"')
    (change,) = diffed(capsys, folder)["databases"]
    assert (change["database"], change["change"]) == ("orders", "changes")
    assert change["keys"] == [
        {"place": "schedule.full", "old": '"sun 02:00"', "new": '"sat 23:00"'},
        {"place": "retention.keep_within", "old": "nothing", "new": '"4d"'},
        {"place": "retention.keep_days", "old": "28", "new": "nothing"},
    ]
    assert {(slot["type"], slot["at"][11:16]) for slot in change["schedule"]["come"]} == {("full", "23:00")}
    assert {(slot["type"], slot["at"][11:16]) for slot in change["schedule"]["go"]} == {("full", "02:00")}
    assert len(change["schedule"]["come"]) == len(change["schedule"]["go"]) == 2
    (retention,) = change["retention"]
    assert (retention["archive"], retention["known"]) == ("first", False)
    assert retention["because"] == "the archive was not to be read"
    assert run(["policy", "diff", "HEAD", "--policies", str(folder), "--offline"]) == 0
    out = capsys.readouterr().out
    assert "2 fulls come: Sat " in out
    assert "2 fulls go: Sun " in out


def test_databases_come_and_go_with_their_slots(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "shop.toml").unlink()
    (folder / "till.toml").write_text(POLICY.format(name="till"))
    found = diffed(capsys, folder, "main", "--days", "7")["databases"]
    assert [(one["database"], one["change"]) for one in found] == [("till", "comes"), ("shop", "goes")]
    assert [len(one["schedule"]["come"]) for one in found] == [7, 0]
    assert [len(one["schedule"]["go"]) for one in found] == [0, 7]


def test_a_change_of_what_is_included_changes_all_that_include_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(folder.parent / "defaults/common.toml", "10", "12")
    found = diffed(capsys, folder)["databases"]
    assert [(one["database"], one["keys"]) for one in found] == [
        (name, [{"place": "freeze.seconds_max", "old": "10", "new": "12"}]) for name in ("orders", "shop")
    ]


def test_a_value_that_was_the_default_is_called_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder / "orders.toml", "[retention]", "[stamp]\ntimeout_seconds = 31\n[retention]")
    (change,) = diffed(capsys, folder)["databases"]
    assert change["keys"] == [{"place": "stamp.timeout_seconds", "old": "30 (default)", "new": "31"}]
    edit(folder / "orders.toml", "timeout_seconds = 31", 'timeout_seconds = "30s"')
    assert diffed(capsys, folder)["databases"] == []


def test_two_directories_are_compared_without_git(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other" / "policies"
    shutil.copytree(folder, other)
    shutil.copytree(folder.parent / "defaults", other / "defaults")
    for name in ("orders", "shop"):
        edit(other / f"{name}.toml", "../defaults", "defaults")
    assert diffed(capsys, folder, str(other))["databases"] == []
    edit(other / "shop.toml", "28", "27")
    assert [one["database"] for one in diffed(capsys, folder, str(other))["databases"]] == ["shop"]


def test_a_folder_that_a_commit_does_not_have_is_empty_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = folder.parent / "new"
    new.mkdir()
    (new / "till.toml").write_text(POLICY.format(name="till"))
    assert [one["change"] for one in diffed(capsys, new)["databases"]] == ["comes"]


def test_an_invalid_side_is_told_with_its_file_and_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["policy", "diff", "--policies", str(folder), "--offline"]
    edit(folder / "orders.toml", "keep_days", "keepdays")
    assert run(words) == 3
    assert f"{folder / 'orders.toml'}:13: retention.keepdays" in capsys.readouterr().err
    git(folder.parent, "commit", "-q", "-a", "-m", "wrong")
    edit(folder / "orders.toml", "keepdays", "keep_days")
    assert run(words) == 3
    err = capsys.readouterr().err
    assert "HEAD:policies/orders.toml:13: retention.keepdays" in err
    assert "/tmp" not in err.replace(str(folder), "")


@pytest.mark.parametrize("ref", ["nowhere", "--help-me", "HEAD~40", "main:policies"])
def test_an_unknown_ref_is_not_found(ref: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "diff", "--policies", str(folder), "--offline", "--", ref]) == 5
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["error", "because", "next"]


def test_outside_of_git_a_ref_is_not_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "till.toml").write_text(POLICY.format(name="till"))
    assert run(["policy", "diff", "--policies", str(tmp_path), "--offline"]) == 5
    assert "is not in a git repository" in capsys.readouterr().err


def test_a_link_inside_the_repository_is_followed_and_one_out_of_it_is_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "shop.toml").rename(folder.parent / "shop.toml")
    (folder / "shop.toml").symlink_to("../shop.toml")
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "-q", "-m", "link")
    assert diffed(capsys, folder)["databases"] == []
    (folder / "shop.toml").unlink()
    (folder / "shop.toml").symlink_to("../../outside.toml")
    git(folder.parent, "commit", "-q", "-a", "-m", "out")
    (folder / "shop.toml").unlink()
    assert run(["policy", "diff", "--policies", str(folder), "--offline"]) == 3
    assert "it is a link to '../../outside.toml'" in capsys.readouterr().err


def test_with_an_archive_at_hand_the_retention_is_known(house: House, tmp_path: Path) -> None:
    policies = house.directory / "conf" / "policies"
    shutil.copytree(policies, tmp_path / "old")
    edit(tmp_path / "old/orders.toml", "keep_days = 28", "keep_days = 2")
    said = house.ctl("policy", "diff", str(tmp_path / "old"), "--json")
    assert said.returncode == 0, said.stderr
    (change,) = json.loads(said.stdout)["databases"]
    (retention,) = change["retention"]
    assert retention == {"archive": "first", "known": True, "because": None, "would_drop": [], "would_keep": []}
    told = house.ctl("policy", "diff", str(tmp_path / "old"))
    assert "the next prune drops and keeps what it would have" in told.stdout
