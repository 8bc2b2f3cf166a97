"""A small and strict S3 server in memory, as a function: for the thousands of requests that moto is too slow for."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

Answer = tuple[int, dict[str, str], bytes]
_XML = '<?xml version="1.0" encoding="UTF-8"?>'
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    etag: str
    metadata: dict[str, str]


@dataclass
class MemoryS3:
    """Buckets and objects; it creates once, compares sums, copies, and serves ranges, lists and bulk deletes."""

    buckets: dict[str, dict[str, _Object]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Answer one request; header names are in lower case."""
        parts = urlsplit(path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = parse_qs(parts.query, keep_blank_values=True)
        with self.lock:
            if method == "PUT" and not key:
                self.buckets.setdefault(bucket, {})
                return 200, {}, b""
            objects = self.buckets.get(bucket)
            if objects is None:
                return _error(404, "NoSuchBucket")
            if not key:
                return _delete_many(objects, body) if method == "POST" else _listed(objects, query)
            if method == "PUT" and "x-amz-copy-source" in headers:
                source, _, from_key = unquote(headers["x-amz-copy-source"]).lstrip("/").partition("/")
                objects[key] = self.buckets[source][from_key]
                return _xml(200, f"<CopyObjectResult><ETag>{objects[key].etag}</ETag></CopyObjectResult>")
            if method == "PUT":
                return _put(objects, key, headers, body)
            if method == "DELETE":
                objects.pop(key, None)
                return 204, {}, b""
            return _get(objects, key, headers)


def _put(objects: dict[str, _Object], key: str, headers: dict[str, str], body: bytes) -> Answer:
    if "authorization" not in headers:
        return _error(403, "AccessDenied")
    sums = {"x-amz-checksum-sha256": hashlib.sha256(body).digest(), "content-md5": hashlib.md5(body).digest()}
    if any(headers.get(name, text) != text for name, text in _encoded(sums).items()):
        return _error(400, "BadDigest")
    if headers.get("if-none-match") == "*" and key in objects:
        return _error(412, "PreconditionFailed")
    metadata = {name: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
    objects[key] = _Object(body, f'"{hashlib.md5(body).hexdigest()}"', metadata)
    return 200, {"ETag": objects[key].etag}, b""


def _encoded(sums: dict[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in sums.items()}


def _get(objects: dict[str, _Object], key: str, headers: dict[str, str]) -> Answer:
    found = objects.get(key)
    if found is None:
        return _error(404, "NoSuchKey")
    facts = {"ETag": found.etag, "Last-Modified": format_datetime(datetime.now(UTC), usegmt=True), **found.metadata}
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
    if match is None:
        return 200, facts, found.data
    start, end = int(match[1]), min(int(match[2]), len(found.data) - 1)
    if start >= len(found.data):
        return _error(416, "InvalidRange")
    return 206, facts | {"Content-Range": f"bytes {start}-{end}/{len(found.data)}"}, found.data[start : end + 1]


def _listed(objects: dict[str, _Object], query: dict[str, list[str]]) -> Answer:
    prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
    delimiter = query.get("delimiter", [""])[0]
    found: dict[str, str] = {}  # by key, or by what a group of keys begins with
    for key in sorted(key for key in objects if key.startswith(prefix)):
        group, more, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else ("", "", "")
        if more:
            name = f"{prefix}{group}{delimiter}"
            found[name] = f"<CommonPrefixes><Prefix>{quote(name)}</Prefix></CommonPrefixes>"
        else:
            etag = f"<ETag>{objects[key].etag}</ETag>"
            found[key] = f"<Contents><Key>{quote(key)}</Key><Size>{len(objects[key].data)}</Size>{etag}</Contents>"
    names = [name for name in found if name > after]
    told = "".join(found[name] for name in names[:_PAGE])
    cut = len(names) > _PAGE
    token = f"<NextContinuationToken>{escape(names[_PAGE - 1])}</NextContinuationToken>" if cut else ""
    facts = f"<EncodingType>url</EncodingType><IsTruncated>{str(cut).lower()}</IsTruncated>{token}"
    return _xml(200, f"<ListBucketResult>{facts}{told}</ListBucketResult>")


def _delete_many(objects: dict[str, _Object], body: bytes) -> Answer:
    for key in re.findall(r"<Key>([^<]*)</Key>", body.decode()):
        objects.pop(unescape(key), None)
    return _xml(200, "<DeleteResult></DeleteResult>")


def _error(status: int, code: str) -> Answer:
    return _xml(status, f"<Error><Code>{code}</Code><Message>a test's server says so</Message></Error>")


def _xml(status: int, text: str) -> Answer:
    return status, {"Content-Type": "application/xml"}, f"{_XML}{text}".encode()
