"""Takes secrets out of text that will be shown, logged or sent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote

MASK = "***"
# Shorter ones would mask words that are no secret.
_SECRET_LENGTH_MIN = 4
_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]*@")
_PASSWORD = re.compile(r"(?i)\b(password|passwd|pwd|secret|token|api_?key)(\s*[=:]\s*)('(?:\\.|[^'\\])*'|[^\s;,&'\"]+)")


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without the values of ``secrets``, without a URL's user and password, without ``password=...``.

    What a URL is made of counts too, for libraries quote parts of one: see ``parts_of``.
    """
    # The longest first: one secret may be a part of another.
    for secret in sorted({one for one in secrets if len(one) >= _SECRET_LENGTH_MIN}, key=len, reverse=True):
        for form in (secret, quote(secret, safe=""), quote(secret)):
            text = text.replace(form, MASK)
    text = _USERINFO.sub(f"{MASK}@", text)
    return _PASSWORD.sub(lambda found: f"{found[1]}{found[2]}{MASK}", text)


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
    return tuple(sorted(one for one in found if len(one) >= _SECRET_LENGTH_MIN))
