"""Who may enter which room, and how big rooms may be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import house_rules as house

# Name, lines, since when, and why. A ratchet: lines may be taken out or lowered, never added or raised.
EXCEPTIONS: list[tuple[str, int, str, str]] = []

ALL = house.modules()


def assert_none(rule: Callable[[str, str], list[str]]) -> None:
    complaints = [told for path, text in ALL.items() for told in rule(path, text)]
    assert not complaints, "\n".join(complaints)


def test_every_room_keeps_its_doors() -> None:
    assert_none(house.door_complaints)


def test_pure_rooms_are_pure() -> None:
    assert_none(house.purity_complaints)


def test_every_file_says_what_it_is() -> None:
    assert_none(house.docstring_complaints)


def test_no_check_is_an_assert() -> None:
    assert_none(house.assert_complaints)


def test_names_use_our_words() -> None:
    assert_none(house.name_complaints)


def test_files_and_functions_are_small() -> None:
    found: dict[str, int] = {}
    for path, text in ALL.items():
        found |= house.sizes(path, text)
    complaints = house.size_complaints(found, {name: lines for name, lines, _, _ in EXCEPTIONS})
    assert not complaints, "\n".join(complaints)


def test_the_house_is_looked_at_whole() -> None:
    assert {"errors.py", "ports/writer.py", "model/states.py", "journal/journal.py", "providers/btrfs.py"} <= set(ALL)


FORBIDDEN = [
    (
        "runs/backup.py",
        "from backupd.engines.sqlite.holders import processes_using",
        "runs may not enter engines/sqlite",
    ),
    ("runs/backup.py", "def late():\n    import backupd.providers.btrfs", "runs may not enter providers"),
    ("decide/truncation.py", "from backupd import journal", "decide may not enter journal"),
    ("model/position.py", "from backupd.ports import Clock", "model may not enter ports"),
    ("pipeline/store.py", "from backupd.archive.local import x", "pipeline may not enter archive"),
    ("archive/local.py", "from backupd.runs.backup import x", "archive may not enter runs"),
    ("providers/btrfs.py", "from backupd.engines.sqlite import holders", "providers may not enter engines/sqlite"),
    ("cli/show.py", "from backupd.engines.sqlite import capture", "cli may not enter engines/sqlite"),
    ("attic/box.py", "import os", "the room attic is not in the table"),
    ("attic.py", "import os", "the room attic is not in the table"),
    ("cli/show.py", "from . import main", "imports are absolute"),
    ("runs/backup.py", "import zstandard", "zstandard lives in pipeline/compress.py only"),
    ("runs/backup.py", "import sqlite3", "sqlite3 lives in"),
    ("archive/local.py", "import subprocess", "subprocess lives in"),
    ("archive/s3.py", "import requests", "requests has no address"),
]

ALLOWED = [
    ("runs/backup.py", "from backupd import __version__\nfrom backupd.decide import truncation\nimport json"),
    ("bootstrap/engines.py", "from backupd.engines.sqlite.holders import processes_using\nimport backupd.runs.backup"),
    ("journal/book.py", "import sqlite3\nfrom backupd.journal.records import Run"),
    ("policy/git_call.py", "import subprocess"),
]


@pytest.mark.parametrize(("path", "text", "says"), FORBIDDEN)
def test_a_forbidden_door_is_seen(path: str, text: str, says: str) -> None:
    (told,) = house.door_complaints(path, text)
    assert says in told


@pytest.mark.parametrize(("path", "text"), ALLOWED)
def test_an_open_door_is_open(path: str, text: str) -> None:
    assert house.door_complaints(path, text) == []


@pytest.mark.parametrize(
    "text",
    ["import time", "from os import path", "from datetime import datetime\nx = datetime.now()", "import pathlib"],
)
def test_a_clock_in_a_pure_room_is_seen(text: str) -> None:
    assert len(house.purity_complaints("decide/x.py", text)) == 1
    assert house.purity_complaints("runs/x.py", text) == []


def test_other_rules_see_what_they_forbid() -> None:
    assert house.docstring_complaints("x.py", "import os")
    assert house.docstring_complaints("x.py", '"""no sentence at all"""')
    assert house.assert_complaints("x.py", "def f(a):\n    assert a")
    assert house.name_complaints("x.py", "def dump_all(): ...")
    assert house.name_complaints("x.py", "class MasterCopy: ...")
    assert house.name_complaints("x.py", "def f(old_slave): ...")
    assert house.name_complaints("archive/utils.py", "")
    assert house.name_complaints("x.py", "import json\ntext = json.dumps({})") == []


def test_sizes_are_a_ratchet() -> None:
    lines = "\n".join(["def f():"] + ["    pass"] * 60)
    assert house.sizes("x.py", lines) == {"x.py": 61, "x.py::f": 61}
    assert house.size_complaints({"x.py::f": 60, "x.py": 300}, {}) == []
    assert "more than 60" in house.size_complaints({"x.py::f": 61}, {})[0]
    assert "more than 300" in house.size_complaints({"x.py": 301}, {})[0]
    assert house.size_complaints({"x.py": 320}, {"x.py": 320}) == []
    assert "more than 320" in house.size_complaints({"x.py": 321}, {"x.py": 320})[0]
    assert "may only shrink" in house.size_complaints({"x.py": 310}, {"x.py": 320})[0]
    assert "take its line out" in house.size_complaints({"x.py": 300}, {"x.py": 320})[0]
