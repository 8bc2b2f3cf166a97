"""Nothing left but the archive: no policy, no config, no catalog, on a host that has never seen the pair."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.s3_servers import KEYS, keys_of_nobody, moto_server
from tests.stories.home import Answer, Entry, Home, home, sums_of, three_lines

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Lost:
    """An archive whose pair and whose host are gone, and what the table had held."""

    archive: Path
    first: Entry
    last: Entry
    backups: tuple[str, ...]


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Lost:
    root = tmp_path_factory.mktemp("disaster")
    with home(root / "old") as made:
        made.up()
        made.backup("full")
        first = made.commit()
        made.backup()
        made.commit("DELETE FROM ledger WHERE id > 50")
        last = made.commit()
        made.backup()
        rows = made.ok("list", "orders", "--json").json["backups"]
        shutil.copytree(made.archive, root / "archive")
    return Lost(root / "archive", first, last, tuple(row["id"] for row in rows))


def bare(there: Path, *words: str, **variables: str) -> Answer:
    """``backupctl`` on an empty host: an empty home, an empty directory, no variable but those that are named."""
    there.mkdir(exist_ok=True)
    (there / "tmp").mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(there), "COLUMNS": "140"}
    done = subprocess.run(
        [sys.executable, "-m", "backupd.cli.main", *words],
        env={**environment, "TMPDIR": str(there / "tmp"), **variables},
        cwd=there,
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    answer = Answer(words, done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, answer.told()
    assert not list((there / "tmp").iterdir()), "state of a command that is over lies around"
    return answer


def content(archive: Path) -> dict[str, bytes]:
    return {str(path.relative_to(archive)): path.read_bytes() for path in archive.rglob("*") if path.is_file()}


def test_the_latest_state_comes_back_from_the_archive_alone(lost: Lost, tmp_path: Path) -> None:
    before = content(lost.archive)
    answer = bare(tmp_path, "restore", "--from", str(lost.archive), "--database", "orders", "--target", "out")
    assert answer.status == 0, answer.told()
    assert sums_of(tmp_path / "out" / "app.db") == (lost.last.rows, lost.last.total)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["app.db"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "tmp"]
    assert content(lost.archive) == before, "the archive is only read"


def test_the_only_database_needs_no_name_and_any_moment_can_be_had(lost: Lost, tmp_path: Path) -> None:
    words = ("restore", "--from", f"file://{lost.archive}", "--target", "out", "--at", lost.first.at.isoformat())
    answer = bare(tmp_path, *words)
    assert answer.status == 0, answer.told()
    assert sums_of(tmp_path / "out" / "app.db") == (lost.first.rows, lost.first.total)


def test_one_can_look_first(lost: Lost, tmp_path: Path) -> None:
    before = content(lost.archive)
    source = ("--from", str(lost.archive))
    listed = bare(tmp_path, "list", *source, "--json")
    assert tuple(row["id"] for row in listed.json["backups"]) == lost.backups
    assert bare(tmp_path, "show", lost.backups[0], *source, "--json").json["database"] == "orders"
    verified = bare(tmp_path, "verify", *source, "--json").json
    assert verified["sound"]
    assert verified["databases"][0]["read_bytes"] > 0
    planned = bare(tmp_path, "restore", *source, "--target", "out", "--dry-run", "--json").json
    assert planned["backups"][0] == lost.backups[0]
    assert not (tmp_path / "out").exists()
    assert content(lost.archive) == before, "looking leaves nothing, no verdict and no lease"


def test_the_moment_can_be_found_where_nothing_else_is_left(lost: Lost, tmp_path: Path) -> None:
    place = ("--from", str(lost.archive))
    line = bare(tmp_path, "timeline", *place, "--json").json
    assert [one["backup"] for one in line["moments"] if one["kind"] != "stamp"] == list(lost.backups)
    found = bare(tmp_path, "timeline", *place, "--from", "1 h ago", "--commits", "--table", "ledger", "--json").json
    deletes = [one for one in found["commits"] if one["deed"] == "delete"]
    assert len(deletes) == 1
    command = shlex.split(deletes[0]["restore"].replace("--target DIR", "--target out"))
    assert command[0] == "backupctl"
    answer = bare(tmp_path, *command[1:])
    assert answer.status == 0, answer.told()
    assert sums_of(tmp_path / "out" / "app.db") == (lost.first.rows, lost.first.total)
    shutil.copytree(lost.archive, tmp_path / "arch")
    assert bare(tmp_path, "timeline", "--from", "arch", "--json").json["windows"] == line["windows"]
    twice = bare(tmp_path, "timeline", *place, *place)
    assert twice.status == 2, twice.told()
    assert three_lines(twice)[0] == "--from is said twice"


def test_an_archive_that_nobody_may_write_is_enough(lost: Lost, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(lost.archive, archive)
    for path in [archive, *archive.rglob("*")]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        answer = bare(tmp_path / "host", "restore", "--from", str(archive), "--target", "out")
    finally:
        for path in [archive, *archive.rglob("*")]:
            path.chmod(0o700)
    assert answer.status == 0, answer.told()


def test_a_bucket_is_enough_with_the_variables_that_boto3_knows(lost: Lost, tmp_path: Path) -> None:
    with keys_of_nobody():
        server = moto_server()
        place = server.place(prefix="team/orders")
    with keys_of_nobody():
        for name, data in content(lost.archive).items():
            server.client().put_object(Bucket=place.bucket, Key=place.key(name), Body=data)
    source = ("--from", place.url(), "--database", "orders")
    named = bare(tmp_path, "restore", *source, "--target", "out", "--endpoint-url", server.url, **KEYS)
    assert named.status == 0, named.told()
    assert sums_of(tmp_path / "out" / "app.db") == (lost.last.rows, lost.last.total)
    listed = bare(tmp_path, "list", "--from", place.url(), "--json", AWS_ENDPOINT_URL=server.url, **KEYS)
    assert tuple(row["id"] for row in listed.json["backups"]) == lost.backups
    wrong = bare(tmp_path, "list", "--from", f"{place.url()}x", "--endpoint-url", server.url, **KEYS)
    assert wrong.status == 5, wrong.told()


def test_what_was_restored_can_be_looked_at(lost: Lost, tmp_path: Path) -> None:
    source = ("restore", "--from", str(lost.archive), "--target", "out")
    answer = bare(tmp_path, *source, "--open")
    assert answer.status == 0, answer.told()
    [command] = [line.partition("look around: ")[2] for line in answer.out.splitlines() if "look around: " in line]
    assert shlex.split(command) == ["sqlite3", f"file:{tmp_path}/out/app.db?mode=ro"]
    assert bare(tmp_path, *source, "--stop").out.strip() == "nothing runs there"
    for words in (("--open", "--stop"), ("--open", "--json")):
        assert bare(tmp_path, *source, *words).status == 2
    assert bare(tmp_path, "restore", "orders", "--open").status == 2


def test_what_is_wrong_is_said_in_three_lines(lost: Lost, tmp_path: Path) -> None:
    source = ("restore", "--from", str(lost.archive))
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        ("restore", "--target", "out"): (2, "no database is named"),
        source: (2, "--from needs a directory"),
        (*source, "--target", ""): (2, "no target is named"),
        (*source, "--target", "out", "--database", "other"): (5, "no database is called 'other'"),
        (*source, "other", "--target", "out", "--database", "orders"): (2, "contradict each other"),
        (*source, "--target", "out", "--endpoint-url", "http://127.0.0.1:1"): (2, "--endpoint-url is for buckets"),
        ("restore", "orders", "--endpoint-url", "http://127.0.0.1:1"): (2, "--endpoint-url goes with --from only"),
        ("restore", "orders", "--database", "orders"): (2, "--database goes with --from only"),
        ("restore", "--from", str(empty), "--target", "out"): (5, "holds no archive"),
        ("restore", "--from", str(tmp_path / "none"), "--target", "out"): (8, "is not there"),
        ("restore", "--from", "ftp://host/x", "--target", "out"): (2, "--from names no archive"),
        ("restore", "--from", "s3://u:secret@bucket/x", "--target", "out"): (2, "--from names no archive"),
        ("list", "--from", ""): (2, "--from names no archive"),
    }
    for words, (status, problem) in cases.items():
        answer = bare(tmp_path / "host", *words)
        assert answer.status == status, answer.told()
        assert problem in three_lines(answer)[0], answer.told()
        assert "u:secret" not in answer.err
    other = bare(tmp_path / "host", *source, "--target", "out", "--database", "other")
    assert three_lines(other)[1] == "the archive holds orders"
    later = bare(tmp_path / "host", *source, "--target", "out", "--at", "2020-01-01T00:00:00Z")
    assert later.status == 5
    assert f"--from {lost.archive}" in three_lines(later)[2], "the advice works on this host too"


@pytest.mark.slow
def test_several_databases_are_listed_and_one_is_to_be_named(lost: Lost, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(lost.archive, archive)
    _add_database(archive, "invoices")
    answer = bare(tmp_path / "host", "restore", "--from", str(archive), "--target", "out")
    assert answer.status == 2, answer.told()
    assert "invoices, orders" in three_lines(answer)[1]
    named = bare(tmp_path / "host", "restore", "orders", "--from", str(archive), "--target", "out")
    assert named.status == 0, named.told()
    listed = bare(tmp_path / "host", "list", "--from", str(archive))
    assert "invoices" in listed.out


@pytest.mark.slow
def test_a_database_of_another_engine_may_have_the_same_name(lost: Lost, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(lost.archive, archive)
    _add_database(archive, "orders", "postgres")
    words = ("restore", "--from", str(archive), "--target", "out", "--database")
    answer = bare(tmp_path / "host", *words, "orders")
    assert "sqlite/orders" in three_lines(answer)[2]
    named = bare(tmp_path / "host", *words, "sqlite/orders")
    assert named.status == 0, named.told()


def _add_database(archive: Path, name: str, engine: str = "sqlite") -> None:
    from backupd.archive.local import LocalStore
    from backupd.archive.repository import Repository
    from tests.archive_builders import ObedientClock

    Repository.open(LocalStore(archive), ObedientClock()).database(name, engine, "somebody-else")


@pytest.mark.slow
def test_a_pair_is_not_needed_to_restore_an_encrypted_archive(tmp_path: Path) -> None:
    from backupd.archive.age import new_identity

    secret, recipient = new_identity()
    key = tmp_path / "key.txt"
    key.write_text(secret + "\n")
    with home(tmp_path / "old") as made:
        _encrypted_to(made, recipient)
        entry = made.commit()
        made.backup("full")
        shutil.copytree(made.archive, tmp_path / "archive")
    words = ("restore", "--from", str(tmp_path / "archive"), "--target", "out")
    refused = bare(tmp_path / "host", *words)
    assert refused.status == 3, refused.told()
    assert "--key FILE" in refused.err
    assert not (tmp_path / "host" / "out").exists()
    answer = bare(tmp_path / "host", *words, "--key", str(key))
    assert answer.status == 0, answer.told()
    assert sums_of(tmp_path / "host" / "out" / "app.db") == (entry.rows, entry.total)


def _encrypted_to(made: Home, recipient: str) -> None:
    made.create()
    made.init()
    made.policy.write_text(f'{made.policy.read_text()}\n[encryption]\nmode = "age"\nrecipients = ["{recipient}"]\n')
    made.start_service()
    made.wait_healthy()
