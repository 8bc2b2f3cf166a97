"""What this process has read of secrets, so that no line that it writes shows one."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus, unquote

from backupd.model.masking import MASK, SECRET_LENGTH_MIN, mask, parts_of

# A guess by a variable's name may be wrong; a short value would then mask half of every line.
_GUESSED_LENGTH_MIN = 6
_SECRET_NAME = re.compile(r"(?i)(passw(or)?d|passphrase|secret|token|api_?key|private_?key|credential)")
_PLACE_NAME = re.compile(r"(?i)_(file|path|dir|directory|id|name)$")
# A part of a URL is taken for a secret by its look; the name of a channel or of a database is none.
_LIKE_A_TOKEN = re.compile(r"(?=.*[0-9A-Z])\S{8,}|\S{20,}")

_lock = threading.Lock()
_known: tuple[str, ...] = ()  # every form, the longest first: one secret may be a part of another


def learn(secret: str) -> None:
    """From now on ``secret`` is masked, and so is each form that a library may show it in; safe for threads."""
    global _known
    found = {form for part in (secret, *_secret_parts(secret)) for form in _forms(part)}
    found = {form for form in found if len(form) >= SECRET_LENGTH_MIN}
    with _lock:
        if not found <= set(_known):
            _known = tuple(sorted(found | set(_known), key=len, reverse=True))


def learn_environment(environ: Mapping[str, str]) -> None:
    """Learn the values of variables whose names say that they hold a secret, such as AWS_SECRET_ACCESS_KEY."""
    for name, value in environ.items():
        if len(value) >= _GUESSED_LENGTH_MIN and is_secret_name(name):
            learn(value)


def masked(text: str) -> str:
    """``text`` without any secret that was learned, and without what has a secret's shape."""
    for form in _known:
        if form in text:
            text = text.replace(form, MASK)
    return mask(text)


def is_secret_name(name: str) -> bool:
    """Whether what is called so is a secret by its name, as a password is and a password_file is not."""
    return _SECRET_NAME.search(name) is not None and _PLACE_NAME.search(name) is None


def forget_all() -> None:
    """Know none any more; for tests."""
    global _known
    with _lock:
        _known = ()


def _secret_parts(secret: str) -> Iterable[str]:
    """Of a URL: what follows the scheme, its password, and each part that looks like a token."""
    _, is_url, rest = secret.partition("://")
    if not is_url:
        return
    yield rest
    userinfo = rest.partition("/")[0].rpartition("@")[0]
    if password := userinfo.partition(":")[2]:
        yield from (password, unquote(password))
    yield from (part for part in parts_of(secret) if _LIKE_A_TOKEN.fullmatch(part))


def _forms(secret: str) -> Iterable[str]:
    """As it is, and as reprs, JSON, URLs, forms and headers show it."""
    yield secret
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    raw = secret.encode("utf-8", "surrogateescape")
    yield from (quote(raw), quote(raw, safe=""), quote_plus(raw))
    yield base64.b64encode(raw).decode()
