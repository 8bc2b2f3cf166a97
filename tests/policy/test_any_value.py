"""Whatever stands at whatever place of a policy, it is taken or named with its line; nothing is a traceback."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import BaseModel

from backupd.errors import ConfigInvalid
from backupd.policy.load import check_policy_text
from backupd.policy.schema import Policy
from backupd.policy.service_file import ServiceFile
from backupd.policy.value_words import is_section, section_in
from backupd.policy.written import parse_written

BASE = {
    "database": '"orders"',
    "engine": '"sqlite"',
    "archive": '"file:///backups"',
    "copies.a.path": '"/data/app.db"',
    "copies.b.path": '"/data/passive/app.db"',
}
# One of each kind, at the edges of each kind, and the words that people write for others.
VALUES = (
    *("0", "-1", "1", "10000000000000000000000", "1.5", "inf", "nan", "true", "false", '""', '"x"', '"yes"', '"5"'),
    *(
        '"5 parsecs"',
        '"4 mb"',
        '"20 seconds"',
        '"1e999d"',
        '"\\u0000"',
        '"../x"',
        '"s3://"',
        '"file://["',
        '"ssh-ed25519"',
    ),
    *("[]", "{}", '["x"]', "[1, 2]", '{x = "y"}', "[[]]", "2026-11-22", "02:00:00", "2026-11-22T02:00:00Z"),
)


def places(model: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{above}{name}"
        inner = section_in(field.annotation)
        if inner is not None and is_section(field.annotation):
            yield from places(inner, f"{above}{name}.")
        elif inner is not None and name == "copies":
            yield from places(inner, f"{above}{name}.a.")
        elif inner is not None:
            yield from places(inner, f"{above}{name}.")


def text_with(place: str, value: str) -> str:
    """The smallest policy with one more key, which takes the place of those at or below it."""
    kept = {key: old for key, old in BASE.items() if not key.startswith(f"{place}.") and key != place}
    return "".join(f"{key} = {old}\n" for key, old in {**kept, place: value}.items())


@pytest.mark.parametrize("place", [*places(Policy), "nothing", "copies.c", "schedule.nothing"])
def test_any_value_at_any_place_is_taken_or_named(place: str) -> None:
    for value in VALUES:
        text = text_with(place, value)
        try:
            check_policy_text(text, Path("/nowhere/x.toml"))
        except ConfigInvalid as error:
            found = error.details["problems"]
        else:
            found = []
        lines = text.splitlines()
        for problem in found:
            assert 1 <= problem["line"] <= len(lines), (value, problem)
            assert len(problem["problem"]) > 10, (value, problem)
            assert "\n" not in problem["problem"], (value, problem)


@settings(max_examples=300, deadline=None)
@given(some.text(max_size=80), some.sampled_from([*places(Policy)]))
def test_any_text_in_a_file_is_taken_or_named(text: str, place: str) -> None:
    for whole in (text, f"{text_with('schedule.full', '1')}{text}", f"{place} = {text}"):
        with contextlib.suppress(ConfigInvalid):
            check_policy_text(whole, Path("/nowhere/x.toml"))


TEXTUAL = (
    "archive",
    "second_archive.url",
    "s3.endpoint_url",
    "s3.proxy",
    "copies.a.conninfo",
    "schedule.full",
    "verify.budget",
)
BEGINNINGS = ("", "file://", "file:///", "s3://", "https://", "postgresql://", "postgresql://[", "host=", "sun ", "1")


@settings(max_examples=500, deadline=None)
@given(some.sampled_from(BEGINNINGS), some.text(max_size=30), some.sampled_from(TEXTUAL))
def test_any_text_at_a_place_of_addresses_and_words_is_taken_or_named(begin: str, text: str, place: str) -> None:
    quoted = json.dumps(begin + text, ensure_ascii=False).replace("\x7f", "\\u007f")
    engine = '"postgres"' if "conninfo" in place else '"sqlite"'
    with contextlib.suppress(ConfigInvalid):
        check_policy_text(text_with(place, quoted).replace('"sqlite"', engine), Path("/nowhere/x.toml"))


@settings(max_examples=300, deadline=None)
@given(
    some.lists(some.sampled_from(["[a]", "[[a]]", "b = 1", 'b = """', '"""', "[a.b]", "a.b = 2", "# x", "'c' = 3", ""]))
)
def test_the_line_of_a_key_is_in_the_file_whatever_the_file_looks_like(lines: list[str]) -> None:
    written, problems = parse_written("\n".join(lines), Path("/nowhere/x.toml"))
    if written is None:
        assert problems
        return
    for parts in (["a"], ["a", "b"], ["a", "0", "b"], ["b"], ["c"], ["none"]):
        _, line = written.where(parts)
        assert 0 <= line <= max(1, len(lines))
        value = written.given(parts)
        if value is not None and not isinstance(value, dict | list):
            assert re.search(parts[-1], lines[line - 1]), (lines, parts, line)


def test_the_places_of_the_service_config_are_all_found() -> None:
    found = set(places(ServiceFile))
    assert {"service.state_dir", "policies.repository", "policies.every"} <= found
