"""Small JSON objects that prove themselves: a first line with the SHA-256 of the rest, then canonical JSON.

The JSON names its own object and repository, so a copy under another name, or
from another archive, is found like a flipped bit is.
"""

from __future__ import annotations

import json
from typing import Any

from backupd.digests import sha256_hex
from backupd.errors import DamageFound
from backupd.pipeline.container import damage

VERSION = 1


def seal(kind: str, object_name: str, repository: str, content: dict[str, Any]) -> bytes:
    """The bytes of an object of ``kind``: one of repository, key, identity, intent, record, tomb, verdict and so on."""
    body = json.dumps(
        {**content, "object": object_name, "repository": repository},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()
    return f"backupd-{kind} v{VERSION} sha256={sha256_hex(body)}\n".encode() + body


def unseal(kind: str, object_name: str, data: bytes, repository: str | None) -> dict[str, Any]:
    """The content of an object; ``repository`` None means that it is not known yet.

    Raises:
        DamageFound: the bytes are not those of that object.
    """
    first, newline, body = data.partition(b"\n")
    start = f"backupd-{kind} v{VERSION} sha256=".encode()
    if not newline or not first.startswith(start):
        if first.startswith(f"backupd-{kind} v".encode()) and newline:
            raise damage(object_name, f"its first line is not of version {VERSION}: {_shown(first)}")
        raise damage(object_name, f"it is not a {kind}: its first line is {_shown(first)}")
    if first != start + sha256_hex(body).encode():
        raise damage(object_name, "its bytes are not those that its first line was made of")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise damage(object_name, "its content is not JSON") from None
    if not isinstance(content, dict):
        raise damage(object_name, "its content is not a JSON object")
    if content.get("object") != object_name:
        raise damage(object_name, f"these are the bytes of another object: {content.get('object')}")
    if repository is not None and content.get("repository") != repository:
        raise damage(object_name, f"it belongs to another archive: {content.get('repository')}")
    return content


def malformed(object_name: str, problem: Exception) -> DamageFound:
    """For content whose sum is right and whose fields are not."""
    return damage(object_name, f"a field is missing or not what it must be: {problem!r}")


def _shown(line: bytes) -> str:
    return repr(line[:40])
