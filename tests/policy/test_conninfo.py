"""Connection strings are read as libpq reads them, and a secret in one is found without being repeated."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.policy.conninfo import checked_conninfo, read_conninfo, server_of

LIKE_LIBPQ = [
    "host=db1 port=5432 user=backupd dbname=app",
    "  host = db1   port= 5432\n",
    "application_name='two words' host=db1",
    r"user='it\'s' host=db1",
    r"user=it\'s host=db1",
    "user='' host=db1",
    "host=db1'",
    "postgresql://backupd@db1:5432/app?sslmode=require&application_name=a%20b",
    "postgres://db1",
    "postgresql://[::1]:5433/app",
    "postgresql://%2Fvar%2Frun%2Fpg/app",
    "postgresql:///app?host=/run/pg&port=1",
    "",
]
NEITHER_LIKES = ["host", "host=db1 port", "=db1", "user='open", "user='a'b=c"]


@pytest.mark.parametrize("text", LIKE_LIBPQ)
def test_it_is_read_as_libpq_reads_it(text: str) -> None:
    conninfo = pytest.importorskip("psycopg.conninfo", reason="psycopg is not installed")
    theirs = {name: value for name, value in conninfo.conninfo_to_dict(text).items() if value}
    assert read_conninfo(text) == theirs


@pytest.mark.parametrize("text", NEITHER_LIKES)
def test_what_libpq_does_not_take_is_refused(text: str) -> None:
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(psycopg.ProgrammingError):
        psycopg.conninfo.conninfo_to_dict(text)
    with pytest.raises(ValueError, match="is not a connection string"):
        read_conninfo(text)


SECRETS = [
    "host=db1 password=geheim",
    "host=db1 password = 'geheim'",
    "password=geheim",
    "sslpassword=geheim host=db1",
    "postgresql://u:geheim@db1/app",
    "postgresql://:geheim@db1/app",
    "postgresql://u:p@geheim@db1/app",
    "postgresql://db1/app?password=geheim",
    "postgresql://db1/app?sslmode=require&sslpassword=geheim",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="it holds a secret") as caught:
        checked_conninfo(text)
    assert "geheim" not in str(caught.value)
    assert "pgpass" in str(caught.value)


@pytest.mark.parametrize("text", ["passfile=/etc/backupd/pgpass host=db1", "service=standby", "host=db1 password=''"])
def test_where_secrets_belong_is_not_a_secret(text: str) -> None:
    assert checked_conninfo(text) == text


@pytest.mark.parametrize("text", ["host=a,b", "hostaddr=10.0.0.1,10.0.0.2", "postgresql://a:1,b:2/app", "port=1,2"])
def test_several_servers_are_no_copy(text: str) -> None:
    with pytest.raises(ValueError, match="it names several servers"):
        checked_conninfo(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("host=db1", "host=DB1 port=5432 user=x", True),
        ("host=db1", "postgresql://db1/other", True),
        ("host=localhost port=1", "host=127.0.0.1 port=1", True),
        ("host=/run/pg/ port=1", "host=/run/pg port=1", True),
        ("", "user=x", True),
        ("service=one", "service=one user=x", True),
        ("service=one", "service=two", False),
        ("service=one", "host=db1", False),
        ("host=db1", "host=db2", False),
        ("port=5432", "port=5433", False),
    ],
)
def test_which_servers_are_one(one: str, other: str, *, same: bool) -> None:
    assert (server_of(one) == server_of(other)) is same


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab='\\ \n,:/@?%[]\0password"), max_size=40))
def test_no_text_is_a_bug(text: str) -> None:
    for prefix in ("", "postgresql://", "host=db1 "):
        try:
            checked_conninfo(prefix + text)
        except ValueError as error:
            assert str(error).startswith("it ")  # noqa: PT017 - a sentence of ours, not one of Python's
