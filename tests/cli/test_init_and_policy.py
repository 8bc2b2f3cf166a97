"""init writes what the other verbs find; policy checks, prints and plans it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from backupd.cli.main import run
from backupd.policy.first import render_policy


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.delenv("BACKUPD_CONFIG", raising=False)
    directory = tmp_path / "conf"
    assert run(words(directory)) == 0
    capsys.readouterr()
    return directory


def words(directory: Path, *more: str) -> list[str]:
    copies = ["--copy", "a=/data/app.db", "--copy", "b=/data/passive/app.db"]
    return [
        *("init", str(directory), "--database", "orders", "--engine", "sqlite", *copies),
        *("--active", "a", "--archive", "file:///backups", *more),
    ]


def test_init_writes_private_files_that_check_accepts(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(path for path in made.rglob("*") if path.is_file())
    assert [str(path.relative_to(made)) for path in files] == ["backupd.toml", "policies/orders.toml"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    assert run(["policy", "check", "--config", str(made / "backupd.toml"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"]
    assert [row["database"] for row in answer["files"]] == ["orders"]


def test_init_says_which_directory_the_passive_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "the passive"
    what = ["--database", "orders", "--copy", f"a={tmp_path}/no/app.db", "--copy", f"b={place}/app.db"]
    assert run(["init", str(tmp_path / "c"), *what, "--archive", "file:///backups"]) == 0
    said = capsys.readouterr().out
    assert f"  mkdir -p -m 700 '{place}'\n" in said
    assert "/no" not in said
    place.mkdir()
    assert run(["init", str(tmp_path / "d"), *what, "--archive", "file:///backups"]) == 0
    assert "mkdir" not in capsys.readouterr().out


def test_init_overwrites_nothing(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (made / "policies/orders.toml").read_text()
    assert run(words(made)) == 4
    assert capsys.readouterr().err.startswith("error: ")
    assert (made / "policies/orders.toml").read_text() == before


def test_init_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words(tmp_path / "conf", "--dry-run")) == 0
    assert 'database = "orders"' in capsys.readouterr().out
    assert not (tmp_path / "conf").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--copy", "c=/x"], "3 copies"),
        (["--copy", "a=/x"], "given twice"),
        (["--active", "z"], "no copy called"),
        (["--engine", "mysql"], "no engine is called 'mysql'"),
        (["--engine", "postgres"], "--active is of the engine sqlite"),
        (["--data-directory", "a=/x"], "--data-directory is of the engine postgres"),
        (["--bin-directory", "/x"], "--bin-directory is of the engine postgres"),
    ],
)
def test_init_names_what_is_wrong(
    change: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words(tmp_path / "conf", *change)) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "conf").exists()


PG_COPIES = ["--copy", "a=host=/run/pg port=5432", "--copy", "b=postgresql://backupd@db2:5433/postgres"]
PG_PLACES = ["--data-directory", "a=/srv/pg/a", "--data-directory", "b=/srv/pg/b"]


def pg_words(directory: Path, *more: str) -> list[str]:
    named = ["--database", "ledger", "--engine", "postgres", "--archive", "file:///backups"]
    return ["init", str(directory), *named, *more]


def test_init_of_a_postgres_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = tmp_path / "conf"
    assert run(pg_words(conf, *PG_COPIES, *PG_PLACES, "--bin-directory", "/opt/pg/bin")) == 0
    told = capsys.readouterr().out
    assert "backupctl backup ledger --type full" in told
    assert ".pgpass" in told
    text = (conf / "policies/ledger.toml").read_text()
    assert 'conninfo = "postgresql://backupd@db2:5433/postgres"' in text
    assert 'data_directory = "/srv/pg/a"' in text
    assert '\nbin_directory = "/opt/pg/bin"\n' in text
    assert "first_active" not in text
    assert run(["policy", "check", str(conf / "policies")]) == 0


def test_init_of_a_postgres_pair_answers_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pg_words(tmp_path / "conf", *PG_COPIES, *PG_PLACES, "--json")) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["engine"] == "postgres"
    assert answer["data_directories"] == {"a": "/srv/pg/a", "b": "/srv/pg/b"}


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        (PG_COPIES, 2, "0 copies are given with --data-directory"),
        ([*PG_COPIES, *PG_PLACES[:2]], 2, "1 copy is given with --data-directory"),
        ([*PG_COPIES, *PG_PLACES[:2], "--data-directory", "c=/srv/pg/b"], 2, "do not go together"),
        ([*PG_COPIES, "--data-directory", "/srv/pg/a"], 2, "is not a name and a place"),
        ([*PG_COPIES[:2], "--copy", "host=db2 port=1", *PG_PLACES], 2, "do not go together"),
        ([*PG_COPIES[:2], "--copy", "b=host=db2 password=geheim", *PG_PLACES], 3, "it holds a secret"),
        ([*PG_COPIES[:2], "--copy", "b=host=/run/pg port=5432", *PG_PLACES], 3, "the same server"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_init_of_a_postgres_pair_names_what_is_wrong(
    change: list[str], status: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, dry: bool
) -> None:
    assert run(pg_words(tmp_path / "conf", *change, *(["--dry-run"] if dry else []))) == status
    out, err = capsys.readouterr()
    assert says in err
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "because", "next"]
    assert "geheim" not in out + err
    assert not (tmp_path / "conf").exists()


def test_policy_check_names_the_line_and_the_nearest_name(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = made / "policies/orders.toml"
    policy.write_text(policy.read_text().replace("keep_days", "kep_days"))
    assert run(["policy", "check", str(policy)]) == 3
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "because", "next"]
    assert f"{policy}:22: retention.kep_days: " in out
    assert "keep_days" in out
    assert run(["policy", "check", str(policy), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["files"][0]["ok"] is False


def test_policy_check_without_a_policy_is_not_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "check", str(tmp_path)]) == 5
    assert "no policy file" in capsys.readouterr().err


def test_policy_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "schema"]) == 0
    assert "properties" in json.loads(capsys.readouterr().out)


def test_a_database_that_is_not_there_is_three_lines_and_nothing_else(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    copies = ["--copy", f"a={tmp_path / 'app.db'}", "--copy", f"b={tmp_path / 'passive.db'}"]
    assert run(["init", str(conf), "--database", "shop", *copies, "--archive", f"file://{tmp_path / 'backups'}"]) == 0
    said = subprocess.run(
        [sys.executable, "-m", "backupd.cli.main", "backup", "shop", "--config", str(conf / "backupd.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode in {5, 7}, said.stderr
    assert [line.split(":")[0] for line in said.stderr.splitlines()] == ["error", "because", "next"], said.stderr
    assert str(tmp_path / "app.db") in said.stderr
    assert said.stdout == ""


def test_policy_check_sees_two_policies_that_cannot_share_a_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, archive, more in (
        ("orders", "file:///first", '[second_archive]\nurl = "file:///second"\n'),
        ("shop", "file:///second", ""),
    ):
        copies = {"a": f"/data/{name}.db", "b": f"/data/passive/{name}.db"}
        text = render_policy(database=name, copies=copies, active="a", archive=archive)
        (tmp_path / f"{name}.toml").write_text(text + more)
    assert run(["policy", "check", str(tmp_path)]) == 3
    assert "/second is the second archive of orders" in capsys.readouterr().out


def test_policy_check_sees_two_policies_of_one_database_or_one_file(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (made / "policies/orders.toml").read_text()
    (made / "policies/other.toml").write_text(text)
    (made / "policies/shop.toml").write_text(text.replace('"orders"', '"shop"'))
    assert run(["policy", "check", str(made / "policies")]) == 3
    out = capsys.readouterr().out
    assert "other.toml:3: database: orders.toml is the policy of orders already" in out
    assert "shop.toml:7: copies.a: /data/app.db (copy a) is copy a of orders already" in out


def test_policy_check_says_what_a_policy_includes(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = made / "policies/orders.toml"
    (made / "policies/defaults").mkdir()
    (made / "policies/defaults/common.toml").write_text("[freeze]\nseconds_max = 7\n")
    policy.write_text('include = ["defaults/common.toml"]\n' + policy.read_text())
    assert run(["policy", "check", str(made / "policies"), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["files"]
    assert answer["includes"] == ["defaults/common.toml"]
    assert run(["policy", "check", str(made / "policies")]) == 0
    assert "orders, with defaults/common.toml" in capsys.readouterr().out
