"""An encrypted archive, seen through the command line: backups need no key, restores do."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stories.home import Home, home, sums_of

PASSPHRASE = "correct horse battery staple"


def init_keys(root: Path, *words: str) -> tuple[str, Path]:
    """``backupctl init --encryption`` beside another database: the policy's table, and the key's file."""
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "backupd.cli.main",
            "init",
            str(root),
            "--database",
            "orders",
            "--copy",
            f"a={root}/a.db",
            "--copy",
            f"b={root}/p/b.db",
            "--archive",
            f"file://{root}/x",
            *words,
        ],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    policy = (root / "policies" / "orders.toml").read_text()
    (key,) = (root / "keys").iterdir()
    assert str(key) in made.stdout
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert "KEEP THE KEY SAFE" in made.stdout
    return policy[policy.index("[encryption]") :], key


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A full and an incremental to age recipients, by a host that has no private key."""
    root = tmp_path_factory.mktemp("encrypted")
    with home(root / "home") as made:
        made.up()
        table, key = init_keys(root / "elsewhere", "--encryption", "age")
        assert "AGE-SECRET-KEY" not in table
        made.policy.write_text(f"{made.policy.read_text()}\n{table}")
        key.rename(root / "key.txt")
        with made.connected() as database:
            database.execute("CREATE TABLE secrets_of_customers(words TEXT)")
            database.execute("INSERT INTO secrets_of_customers VALUES ('a phrase that nobody else may read')")
        made.backup("full")
        made.commit("INSERT INTO secrets_of_customers VALUES ('and another phrase for the log')")
        made.backup()
        yield made


def key_of(pair: Home) -> str:
    return str(pair.root.parent / "key.txt")


def test_everything_but_reading_works_without_a_private_key(pair: Home, tmp_path: Path) -> None:
    ids = [each["id"] for each in pair.ok("list", "orders", "--json").json["backups"]]
    assert len(ids) >= 2
    for words in (("status", "orders"), ("check", "orders"), ("prune", "orders", "--dry-run"), ("recover",)):
        pair.ok(*words)
    verified = pair.ok("verify", "orders", "--json").json["databases"][0]
    assert verified["sound"]
    assert verified["as_stored_backups"] == len(ids)
    assert not pair.ok("verify", "orders", "--key", key_of(pair), "--json").json["databases"][0]["as_stored_backups"]
    shown = pair.ok("show", ids[0]).out
    assert "AES-256-GCM" in shown
    problem, because, next_step = pair.fails(3, "restore", "orders", "--target", str(tmp_path / "look"), "--yes")
    assert "encrypted" in problem
    assert "no private key" in because
    assert "--key FILE" in next_step
    assert not (tmp_path / "look").exists()


def test_with_the_key_it_restores(pair: Home, tmp_path: Path) -> None:
    pair.ok("restore", "orders", "--target", str(tmp_path / "look"), "--yes", "--key", key_of(pair))
    (restored,) = [path for path in (tmp_path / "look").rglob("*") if path.is_file() and path.name.endswith(".db")]
    assert sums_of(restored) == sums_of(pair.active)
    environment = {"BACKUPD_KEY_FILE": key_of(pair)}
    again = pair.run("restore", "orders", "--target", str(tmp_path / "again"), "--yes", environment=environment)
    assert again.status == 0, again.told()


def test_a_wrong_key_is_named(pair: Home, tmp_path: Path) -> None:
    _, other = init_keys(tmp_path / "other", "--encryption", "age")
    _, because, _ = pair.fails(3, "restore", "orders", "--target", str(tmp_path / "look"), "--yes", "--key", str(other))
    assert re.search(r"not encrypted to the key at hand \([0-9a-f]{16}\)", because)


def test_nothing_in_the_archive_can_be_read(pair: Home) -> None:
    held = b"".join(path.read_bytes() for path in pair.archive.rglob("*") if path.is_file())
    for word in (b"secrets_of_customers", b"a phrase that", b"another phrase", b"CREATE TABLE", b"SQLite format 3"):
        assert word not in held


@pytest.mark.slow
def test_a_passphrase_restores_with_the_archive_alone(pair: Home, tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text(PASSPHRASE + "\n")
    table, key = init_keys(tmp_path / "other", "--encryption", "passphrase", "--passphrase-file", str(file))
    before = pair.policy.read_text()
    try:
        pair.policy.write_text(before[: before.index("[encryption]")] + table)
        pair.backup("full")
        key.unlink()
        words = ("restore", "orders", "--yes", "--target")
        _, because, next_step = pair.fails(3, *words, str(tmp_path / "none"))
        assert "nobody can be asked" in because
        assert "--passphrase-file" in next_step
        file.with_name("wrong").write_text("no\n")
        problem, _, _ = pair.fails(
            3, *words, str(tmp_path / "wrong-look"), "--passphrase-file", str(file.with_name("wrong"))
        )
        assert "could not be opened" in problem
        pair.ok(*words, str(tmp_path / "look"), "--passphrase-file", str(file))
    finally:
        pair.policy.write_text(before)


def test_rotation_is_a_change_of_the_policy(pair: Home, tmp_path: Path) -> None:
    table, key = init_keys(tmp_path / "new", "--encryption", "age")
    before = pair.policy.read_text()
    old = pair.ok("list", "orders", "--json").json["backups"]
    first = min(each["id"] for each in old)
    try:
        pair.policy.write_text(before[: before.index("[encryption]")] + table)
        new = pair.backup("full")["id"]
        look = ("restore", "orders", "--yes", "--target")
        pair.ok(*look, str(tmp_path / "new-look"), "--backup", new, "--key", str(key))
        pair.fails(3, *look, str(tmp_path / "a"), "--backup", new, "--key", key_of(pair))
        pair.ok(*look, str(tmp_path / "old-look"), "--backup", first, "--key", key_of(pair))
    finally:
        pair.policy.write_text(before)


def test_an_archive_in_a_bucket_must_say_how_it_is_encrypted(tmp_path: Path) -> None:
    words = ["init", str(tmp_path), "--database", "orders", "--copy", "a=/d/a.db", "--copy", "b=/d/p/b.db"]
    done = subprocess.run(
        [sys.executable, "-m", "backupd.cli.main", *words, "--archive", "s3://bucket/orders", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "must say how it is encrypted" in done.stderr + json.dumps(done.stdout)
