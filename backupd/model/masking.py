"""Takes secrets out of text that will be shown, logged or sent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote

MASK = "***"
# Shorter ones would mask words that are no secret.
SECRET_LENGTH_MIN = 4
_USERINFO = re.compile(r"(?<=://)[^/\s'\"]*@")
# What is called a secret: PGPASSWORD=x, "aws_session_token": "x", X-Amz-Signature=x; in JSON inside of JSON, too.
_NAMED = re.compile(
    r"(?i)((?:password|passwd|pwd|passphrase|secret|token|api[_-]?key|secret[_-]?access[_-]?key|signature)"
    r"(?:\\?['\"])?)(\s*[=:]\s*)"
    r"(\\\"(?:[^\"\\]|\\(?!\"))*\\\"|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^\s;,&'\"]+)"
)
_HEADER = re.compile(r"\b(Bearer|Basic|AWS4-HMAC-SHA256) +[^\s,;'\"]{8,}")
_PRIVATE_KEY = re.compile(
    r"AGE-SECRET-KEY-1\w+|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without the values of ``secrets``, and without what has a secret's shape, whoever knows it.

    Those are a URL's user and password, ``password=...`` and its kind, what follows Bearer or Basic, private keys.
    What a URL is made of counts too, for libraries quote parts of one: see ``parts_of``.
    """
    # The longest first: one secret may be a part of another.
    for secret in sorted({one for one in secrets if len(one) >= SECRET_LENGTH_MIN}, key=len, reverse=True):
        for form in (secret, quote(secret, safe=""), quote(secret)):
            text = text.replace(form, MASK)
    text = _PRIVATE_KEY.sub(MASK, text)
    text = _HEADER.sub(lambda found: f"{found[1]} {MASK}", text)
    text = _USERINFO.sub(f"{MASK}@", text)
    return _NAMED.sub(lambda found: f"{found[1]}{found[2]}{MASK}", text)


def parts_of(url: str) -> tuple[str, ...]:
    """The URL, and each part of it that may be a secret by itself: user, password, path and query, not the host."""
    _, _, rest = url.partition("://")
    head, _, query = rest.partition("?")
    place, _, path = head.partition("/")
    userinfo = place.rpartition("@")[0]
    pieces = [*userinfo.split(":"), *path.split("/")]
    pieces += [pair.partition("=")[2] for pair in query.split("&")]
    found = {url, *pieces, *(unquote(one) for one in pieces)}
    # Apprise's tokens may stand where a host would: slack://token/token/channel.
    if not url.lower().startswith(("http", "mailto", "smtp", "json", "xml", "form")):
        found |= {place.rpartition("@")[2]}
    return tuple(sorted(one for one in found if len(one) >= SECRET_LENGTH_MIN))
