"""No secret stays in text that is shown."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.model.masking import mask, parts_of

SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=4, max_size=30).filter(
    lambda secret: secret not in "***"
)


@given(st.text(), SECRETS, st.text())
def test_a_known_secret_is_never_in_the_answer(before: str, secret: str, after: str) -> None:
    shown = mask(f"{before} {secret} {after}", [secret])
    assert secret not in shown.replace("***", " ")


@given(st.from_regex(r"[A-Za-z0-9!$%^]{4,20}", fullmatch=True), st.from_regex(r"[A-Za-z0-9_-]{4,20}", fullmatch=True))
def test_no_part_of_a_url_stays(password: str, token: str) -> None:
    url = f"mailtos://someuser:{quote(password, safe='')}@mail.example.org/{token}?key=q{token}"
    shown = mask(f"sending to {url} failed: {password} {token} q{token}", parts_of(url))
    assert shown.count("***") >= 3
    assert f" {password} " not in shown
    assert token not in shown.replace("mail.example.org", "").replace("sending", "").replace("failed", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://joe:pw@db:5432/x", "postgresql://***@db:5432/x"),
        ("host=db password=pw user=x", "host=db password=*** user=x"),
        ("password = 'a b\\' c' x", "password = *** x"),
        ("token: abc, y", "token: ***, y"),
        ("PGPASSWORD=pw1 psql", "PGPASSWORD=*** psql"),
        ("{'aws_session_token': 'abc', 'n': 1}", "{'aws_session_token': ***, 'n': 1}"),
        ('{"password": "a \\" b", "n": 1}', '{"password": ***, "n": 1}'),
        ('a body of {\\"secret\\": \\"hunter 2\\"}', 'a body of {\\"secret\\": ***}'),
        ("GET /x?X-Amz-Signature=0a1b&n=1", "GET /x?X-Amz-Signature=***&n=1"),
        ("Authorization: Basic am9lOnB3cHc=", "Authorization: Basic ***"),
        ("with Bearer 0123456789abcdef, x", "with Bearer ***, x"),
        ("https://joe:p@ss@host/x", "https://***@host/x"),
        ("key AGE-SECRET-KEY-1QQQQ of x", "key *** of x"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nx", "***\nx"),
        ("-----BEGIN PRIVATE KEY-----\ncut off", "***"),
        ("nothing of that", "nothing of that"),
        ("the secret env:ALARM_URL cannot be used", "the secret env:ALARM_URL cannot be used"),
    ],
)
def test_passwords_of_connections_are_masked_where_nobody_knows_them(text: str, shown: str) -> None:
    assert mask(text) == shown
