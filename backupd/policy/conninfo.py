"""Reads how a copy's server is reached (libpq's words or a postgresql:// address), and refuses secrets in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

# Secrets, in libpq's words; a policy is in git, where they would stay for ever.
_SECRETS = ("password", "sslpassword", "oauth_client_secret")
_SCHEMES = ("postgresql://", "postgres://")
_WORD = re.compile(r"\s*([a-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*|(?=\s|$))", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_LOCAL = {"127.0.0.1", "::1", "localhost.localdomain"}
_DEFAULT_PORT = "5432"


def checked_conninfo(text: str) -> str:
    """The text as it stands, when it names one server and no secret.

    Raises:
        ValueError: with a sentence; it never repeats the text, which may hold a secret.
    """
    words = read_conninfo(text)
    for secret in _SECRETS:
        if secret in words:
            raise ValueError(
                f"it holds a secret ({secret}=), and a policy is kept in git; "
                "put it into ~/.pgpass, a PGPASSFILE or a service file of the user that runs backupd"
            )
    for name in ("host", "hostaddr", "port"):
        if "," in words.get(name, ""):
            raise ValueError(f"it names several servers ({name}={words[name]}); a copy is one server")
    return text


def read_conninfo(text: str) -> dict[str, str]:
    """The words of a connection string; empty values are left out, as libpq does.

    Raises:
        ValueError: it is not one, with a sentence that does not repeat it.
    """
    if "\0" in text:
        raise ValueError("it is not a connection string; write it like 'host=db1 port=5432 user=backupd'")
    words = _read_address(text) if text.startswith(_SCHEMES) else _read_words(text)
    return {name: value for name, value in words.items() if value}


def server_of(text: str) -> tuple[str, ...]:
    """What tells this server from another, as far as the text itself says.

    Raises:
        ValueError: as ``read_conninfo``.
    """
    words = read_conninfo(text)
    host = (words.get("hostaddr") or words.get("host") or "").lower()
    port = words.get("port") or ("" if "service" in words else _DEFAULT_PORT)
    return (words.get("service", ""), "localhost" if host in _LOCAL else host.rstrip("/"), port)


def _read_words(text: str) -> Mapping[str, str]:
    words: dict[str, str] = {}
    at = 0
    while text[at:].strip():
        match = _WORD.match(text, at)
        if match is None or (match.end() < len(text) and not text[match.end()].isspace()):
            raise ValueError("it is not a connection string; write it like 'host=db1 port=5432 user=backupd'")
        value = match[2]
        quoted = value.startswith("'")
        words[match[1]] = _ESCAPED.sub(r"\1", value[1:-1] if quoted else value)
        at = match.end()
    return words


def _read_address(text: str) -> Mapping[str, str]:
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("it is not an address; write it like postgresql://backupd@db1:5432/postgres") from None
    user, at, place = parts.netloc.rpartition("@")
    name, colon, secret = user.partition(":")
    words = {"user": unquote(name)} if at else {}
    if colon and secret:
        words["password"] = "in the address"  # noqa: S105 - that there is one is all that is kept of it
    if "," in place:
        words["host"] = unquote(place)
    elif place.startswith("["):
        words["host"], _, port = place[1:].partition("]")
        words["port"] = port.removeprefix(":")
    else:
        host, _, words["port"] = place.partition(":")
        words["host"] = unquote(host)
    words["dbname"] = unquote(parts.path.removeprefix("/"))
    return words | dict(parse_qsl(parts.query))
