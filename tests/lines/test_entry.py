"""Each event is one line, whatever is in it, and the same with structlog and without it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd import known_secrets
from backupd.lines.bound import bind, bound, unbind
from backupd.lines.chain import formatter, within
from backupd.lines.entry import quoted
from backupd.lines.settings import LineForm
from backupd.lines.setup import SmallFormatter

ALL = [(form, make) for form in LineForm for make in (formatter, SmallFormatter)]


def record(message: str, *arguments: object, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("service", logging.INFO, "x.py", 1, message, arguments, None)
    vars(made).update(more)
    return made


def line(form: LineForm, message: str, **more: object) -> str:
    """The line, which structlog and the small formatter make alike."""
    made = record(message, **more)
    small = SmallFormatter(form).format(made)
    assert formatter(form).format(made) == small
    return small


def failure(text: str) -> Any:
    try:
        raise ZeroDivisionError(text)
    except ZeroDivisionError:
        return sys.exc_info()


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    known_secrets.forget_all()
    yield
    known_secrets.forget_all()
    unbind(*bound())


def test_facts_follow_the_event() -> None:
    text = line(LineForm.HUMAN, "replication started", facts={"database": "orders"})
    assert text.startswith("time=20")
    assert text.endswith('level=info from=service event="replication started" database=orders')


def test_json_keeps_the_kinds_of_facts() -> None:
    facts = {"n": 1, "seconds": 0.5, "none": None, "yes": True, "copies": ["a", "b"], "event": "x", "inf": float("inf")}
    said = json.loads(line(LineForm.JSON, "hello", facts=facts))
    del said["time"]
    assert said == {
        "level": "info",
        "from": "service",
        "event": "hello",
        "n": 1,
        "seconds": 0.5,
        "none": None,
        "yes": True,
        "copies": ["a", "b"],
        "event_": "x",
        "inf": "inf",
    }


@pytest.mark.parametrize("form", LineForm)
def test_a_traceback_stays_on_the_line(form: LineForm) -> None:
    text = line(form, "a bug", exc_info=failure("here"))
    assert len(text.splitlines()) == 1
    assert "ZeroDivisionError: here" in text


def test_what_is_bound_is_on_every_line_and_an_events_own_facts_win() -> None:
    bind(run="r1", database="orders")
    assert line(LineForm.HUMAN, "x").endswith("event=x run=r1 database=orders")
    assert line(LineForm.HUMAN, "x", facts={"run": "r2"}).endswith("event=x run=r2 database=orders")
    unbind("run")
    with within(database="other"):
        assert formatter(LineForm.HUMAN).format(record("x")).endswith("event=x database=other")
    assert line(LineForm.HUMAN, "x").endswith("event=x database=orders")


def test_values_are_quoted_when_they_must_be() -> None:
    assert quoted("a-b/c.d:1") == "a-b/c.d:1"
    assert quoted("") == '""'
    assert quoted('say "x" \\ y') == '"say \\"x\\" \\\\ y"'
    assert quoted("a\x1b[31m\nb") == '"a\\x1b[31m\\nb"'


# Halves of surrogate pairs, too, as names of files have, and what ends a line, a string or a field.
LETTERS = st.characters(exclude_categories=()) | st.sampled_from('\ud800\udcff\n\r\x1b\x85\u2028"= \\')


def text(length_max: int) -> st.SearchStrategy[str]:
    return st.lists(LETTERS, max_size=length_max).map("".join)  # st.text meets the rare ones too seldom


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text(20) | st.binary(max_size=20) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text(9), inner, max_size=3),
    max_leaves=8,
)
FACTS = st.dictionaries(text(9), ANY, max_size=4)
TEXT = text(60)


@given(TEXT, FACTS, st.none() | TEXT)
def test_whatever_is_in_it_is_one_line_of_utf_8_and_json_can_be_read(
    message: str, facts: dict[str, Any], bug: str | None
) -> None:
    message = message.replace("%", "%%")
    more: dict[str, Any] = {"facts": facts, "exc_info": failure(bug) if bug is not None else None}
    for form in LineForm:
        made = line(form, message, **more)
        assert made.splitlines() == [made]
        made.encode()
        assert made.isprintable()
    said = json.loads(made) if form is LineForm.JSON else {}
    assert said["from"] == "service"
    json.dumps(said, ensure_ascii=False).encode()  # no half of a surrogate pair, which strict readers refuse
    assert bug is None or "ZeroDivisionError" in said["traceback"]


def test_a_line_is_never_so_long_that_a_reader_cuts_it() -> None:
    facts: dict[str, object] = {f"fact{n}": "\u00e9" * 100_000 for n in range(20)}
    for form in LineForm:
        text = line(form, "long", facts=facts | {"database": "orders"})
        assert len(text.encode()) < 48 * 1024
        assert "orders" in text
    assert json.loads(text)["left_out"] == 20
    assert "94000 letters" in line(LineForm.JSON, "long", facts={"one": "x" * 100_000})
