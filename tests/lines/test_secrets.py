"""No secret is in any line, wherever it stood and whatever it went through on its way there."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd import known_secrets
from backupd.errors import NotHealthy
from backupd.lines.chain import formatter
from backupd.lines.settings import LineForm
from backupd.lines.setup import SmallFormatter
from backupd.policy.secret import parse_secret_reference, read_secret

SECRET = 'hun"ter\\2 + \u00e9/7'


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    known_secrets.forget_all()
    yield
    known_secrets.forget_all()


def lines(message: str = "x", **more: object) -> list[str]:
    made = logging.LogRecord("service", logging.ERROR, "x.py", 1, message, (), None)
    vars(made).update(more)
    return [make(form).format(made) for form in LineForm for make in (formatter, SmallFormatter)]


def failure(text: str) -> Any:
    try:
        try:
            raise ValueError(text)
        except ValueError as inner:
            raise NotHealthy("it failed", because=text, next_step="try again") from inner
    except NotHealthy:
        return sys.exc_info()


Way = Callable[[str], dict[str, Any]]
WAYS: dict[str, Way] = {
    "in the message": lambda text: {"message": f"cannot send {text}!"},
    "as a fact": lambda text: {"facts": {"because": text}},
    "deep in a fact": lambda text: {"facts": {"details": {"list": [1, {"x": text}]}}},
    "as a name": lambda text: {"facts": {"details": {text: 1}}},
    "as bytes": lambda text: {"facts": {"raw": f"x{text}y".encode()}},
    "in a repr": lambda text: {"message": f"got {text!r}"},
    "in the repr of a fact": lambda text: {"facts": {"got": repr([text])}},
    "in JSON": lambda text: {"message": json.dumps({"got": text})},
    "in a URL": lambda text: {"message": f"https://h/x?q={quote_plus(text)}&r={quote(text, safe='')}"},
    "in a traceback and in its cause": lambda text: {"exc_info": failure(text)},
}


def shown(text: str) -> set[str]:
    """What a reader of the line could know the secret by."""
    return {text, text.replace('"', '\\"'), json.dumps(text)[1:-1], repr(text)[1:-1], quote_plus(text), quote(text)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_secret_that_was_read_is_in_no_line(way: str, where: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o600)
    assert any("hun" in text for text in lines(**WAYS[way](SECRET)))  # it would be there
    if where == "file":
        read_secret(parse_secret_reference(f"file:{file}"))
    else:
        read_secret(parse_secret_reference("env:X"), {"X": SECRET})
    for text in lines(**WAYS[way](SECRET)):
        assert "***" in text
        assert not [form for form in shown(SECRET) if form in text], text
        assert "hun" not in text


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x17F), min_size=6, max_size=30), st.sampled_from([*WAYS]))
def test_any_secret_is_masked_on_any_way(secret: str, way: str) -> None:
    if not secret.isprintable() or set(secret) <= set("0123456789*.:-+") or "*" in secret:
        return  # such a one may stand there by chance: as a time, or as the mask
    made = WAYS[way](secret)
    known_secrets.forget_all()
    before = lines(**WAYS[way]("\0" * 3))
    known_secrets.learn(secret)
    for text, without in zip(lines(**made), before, strict=True):
        assert secret not in text or secret in without


def test_a_url_that_holds_a_token_is_masked_in_parts_but_words_in_it_are_not() -> None:
    known_secrets.learn("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/orders?format=text")
    for text in lines(
        "POST /T1JJ3T3L2/A1BRTD4JD to orders failed", facts={"key": "TIiajkdnlazkcOXrIdevi7FQ", "format": "text"}
    ):
        assert "T1JJ3" not in text
        assert "TIia" not in text
        assert "orders" in text
        assert "format" in text
        assert "text" in text


def test_the_environments_secrets_are_known_by_their_names() -> None:
    known_secrets.learn_environment(
        {"PGPASSWORD": "hunter22", "AWS_SECRET_ACCESS_KEY": "wJalrXUt", "TOKEN_FILE": "/etc/token", "SHORT_TOKEN": "on"}
    )
    for text in lines("hunter22 wJalrXUt /etc/token is on"):
        assert "hunter" not in text
        assert "wJal" not in text
        assert "/etc/token is on" in text


@pytest.mark.parametrize(
    "facts",
    [
        {"password": "abc"},
        {"options": {"api_key": "abc"}},
        {"url": "postgresql://joe:abc@db/x"},
        {"header": "Authorization: Bearer abcabcabcabc"},
        {"conninfo": "host=db password=abc"},
    ],
)
def test_what_has_a_secrets_name_or_shape_is_masked_though_nobody_read_it(facts: dict[str, object]) -> None:
    for text in lines("x", facts=facts):
        assert "abc" not in text
        assert "***" in text


def test_a_secret_is_masked_before_a_long_value_is_cut() -> None:
    known_secrets.learn("hunter22hunter22")
    for text in lines("x", facts={"long": "-" * 2_992 + "hunter22hunter22" + "-" * 9_000}):
        assert "hunter" not in text
