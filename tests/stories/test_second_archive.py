"""A second archive on a real pair: backups are in both places, log waits for both, and the other place is enough."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stories.home import Home, home, sums_of


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Home]:
    with home(tmp_path / "home") as made:
        made.up()
        table = f'\n[second_archive]\nurl = "file://{second(made)}"\narchives_min = 2\n'
        made.policy.write_text(made.policy.read_text() + table)
        yield made


def second(pair: Home) -> Path:
    return pair.root / "second"


def objects(place: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    own = ("/verify/", "/lease/", "tmp/")  # of each archive alone
    return {name: data for name, data in found.items() if not any(part in name for part in own)}


def status(pair: Home) -> Any:
    return pair.ok("status", "orders", "--json").json["databases"][0]


@pytest.mark.slow
def test_both_places_hold_every_backup_and_either_is_enough(pair: Home) -> None:
    pair.ok("policy", "check")
    assert pair.backup("full")["truncation"]["state"] in {"truncated", "kept"}
    pair.commit()
    made = pair.backup()
    assert made["truncation"]["state"] == "truncated"
    assert objects(second(pair)) == objects(pair.archive) != {}
    assert status(pair)["second_archive"]["state"] == "whole"
    assert pair.ok("copy-archive", "orders", "--json").json["copied_bytes"] == 0
    assert len(pair.ok("list", "--archive", "second", "--json").json["backups"]) == 2
    assert pair.ok("verify", "--archive", "second", "--json").json["sound"] is True
    pruned = pair.ok("prune", "orders", "--json").json["databases"]
    assert [(one["archive"], one["deleted"]) for one in pruned] == [("first", []), ("second", [])]
    wanted = pair.ledger[-1]
    shutil.rmtree(pair.archive)
    problem, _, next_step = pair.fails(8, "restore", "orders", "--target", str(pair.root / "out"))
    assert str(pair.archive) in problem
    assert next_step.endswith("backupctl restore orders --archive second")
    pair.ok("restore", "orders", "--archive", "second", "--target", str(pair.root / "out"))
    assert sums_of(pair.root / "out" / "app.db") == (wanted.rows, wanted.total)
    pair.ok("restore", "orders", "--archive", "second", "--yes")
    assert sums_of(pair.active) == (wanted.rows, wanted.total)


@pytest.mark.slow
def test_log_waits_for_the_second_place_and_status_says_so(pair: Home) -> None:
    pair.backup("full")
    pair.commit()
    pair.backup()
    shutil.move(second(pair), pair.root / "away")
    second(pair).write_text("what was mounted here is away")
    pair.commit()
    late = pair.backup()
    assert late["state"] == "complete"
    assert late["truncation"]["state"] == "kept"
    assert any("not copied to the second archive" in note for note in late["notes"])
    pair.fails(8, "copy-archive", "orders")
    assert any("second archive" in alarm for alarm in status(pair)["alarms"])
    explained = pair.ok("explain", "truncation", "orders")
    assert str(second(pair)) in explained.out
    second(pair).unlink()
    shutil.move(pair.root / "away", second(pair))
    facts = status(pair)["second_archive"]
    assert (facts["state"], facts["waiting"]) == ("behind", [late["id"]])
    assert late["id"] in pair.ok("explain", "truncation", "orders").out
    planned = pair.ok("copy-archive", "orders", "--dry-run", "--json").json
    assert [one["id"] for one in planned["backups"]] == [late["id"]]
    copied = pair.ok("copy-archive", "orders", "--json").json
    assert copied["copied_bytes"] == planned["missing_bytes"] > 0
    assert pair.ok("truncate", "orders", "--json").json["state"] == "truncated"
    assert status(pair)["alarms"] == []


@pytest.mark.slow
def test_a_killed_copy_is_recovered_and_gone_on_with(pair: Home) -> None:
    pair.backup("full")
    with pair.policy_with(("archives_min = 2", "archives_min = 1")):
        for number in (3, 9, 20):
            shutil.rmtree(second(pair))
            (pair.state / "orders" / "second-archive-view.json").unlink()
            died = pair.run("copy-archive", "orders", environment={"BACKUPD_FAULT": f"die:{number}@copy."})
            if died.status == 0:
                break
            assert died.status == -9, died.told()
            pair.ok("recover")
            assert "nothing was left over" in pair.ok("recover").out
            pair.ok("copy-archive", "orders")
            assert objects(second(pair)) == objects(pair.archive)


def test_damage_in_either_place_is_named_with_status_6(pair: Home) -> None:
    full = pair.backup("full")
    segment = next(path for path in pair.objects("data") if path.is_file())
    good = segment.read_bytes()
    shutil.rmtree(second(pair))
    (pair.state / "orders" / "second-archive-view.json").unlink()
    segment.chmod(0o600)
    segment.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    answer = pair.run("copy-archive", "orders")
    assert answer.status == 6, answer.told()
    assert segment.name in answer.err
    assert str(pair.archive) in answer.err
    assert full["id"] in answer.out
    segment.write_bytes(good)
    pair.ok("copy-archive", "orders")
    copy = second(pair) / segment.relative_to(pair.archive)
    copy.chmod(0o600)
    copy.write_bytes(b"other bytes")
    answer = pair.run("copy-archive", "orders", full["id"])
    assert answer.status == 6, answer.told()
    assert str(second(pair)) in answer.err


@pytest.mark.slow
def test_a_place_of_another_archive_is_refused(pair: Home, tmp_path: Path) -> None:
    with home(tmp_path / "other") as other:
        other.up()
        other.backup("full")
        shutil.copytree(other.archive, second(pair))
    before = objects(second(pair))
    made = pair.backup("full")
    assert any("is another archive" in note for note in made["notes"])
    problem, because, _ = pair.fails(4, "copy-archive", "orders")
    assert "is another archive" in problem
    assert "uuid" in because
    assert objects(second(pair)) == before
