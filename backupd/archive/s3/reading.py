"""Objects out of a bucket: ranged requests, several at once, each going on where it was cut."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from backupd.archive.s3.patience import Patience
from backupd.archive.s3.place import S3Place
from backupd.archive.s3.words import OddAnswer, code_of, is_missing, status_of
from backupd.errors import ObjectMissing

PART_BYTES = 4 << 20
_READ_BYTES = 256 << 10
_AHEAD_MAX = 4  # parts of one object that are fetched before they are asked for: 16 MiB
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class _Part:
    """Some bytes of an object, and what the server said about the whole."""

    data: bytes
    total_bytes: int
    etag: str


class _PastTheEnd(Exception):
    """The object has no byte at that offset."""


class Reading:
    """Reads the objects of one place."""

    def __init__(self, client: Any, place: S3Place, patience: Patience) -> None:
        self._client = client
        self._place = place
        self._patience = patience
        self._pool = ThreadPoolExecutor(place.connections, thread_name_prefix="s3-read")

    def pieces(self, name: str) -> Iterator[bytes]:
        """All of an object in pieces of at most 4 MiB; the next ones are fetched meanwhile. Raises ObjectMissing."""
        try:
            first = self._part(name, 0, PART_BYTES)
        except _PastTheEnd:
            return
        yield first.data
        offsets = iter(range(len(first.data), first.total_bytes, PART_BYTES))
        ahead: deque[Future[_Part]] = deque()
        try:
            while True:
                while len(ahead) < min(_AHEAD_MAX, self._place.connections) and (at := next(offsets, -1)) >= 0:
                    length = min(PART_BYTES, first.total_bytes - at)
                    ahead.append(self._pool.submit(self._part, name, at, length, first))
                if not ahead:
                    return
                yield ahead.popleft().result().data
        finally:
            for each in ahead:
                each.cancel()

    def range(self, name: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; fewer only at the end. Raises ObjectMissing."""
        found = bytearray()
        first: _Part | None = None
        while len(found) < length:
            try:
                part = self._part(name, offset + len(found), min(PART_BYTES, length - len(found)), first)
            except _PastTheEnd:
                break
            first = first or part
            found += part.data
            if offset + len(found) >= part.total_bytes:
                break
        return bytes(found)

    def _part(self, name: str, offset: int, length: int, first: _Part | None = None) -> _Part:
        """Those bytes; fewer only at the object's end.  A body that is cut is asked for again from there on."""
        got = bytearray()
        known = first

        def attempt() -> _Part:
            nonlocal known
            answer = self._ask(name, offset + len(got), offset + length - 1)
            try:
                said = self._said(answer, offset + len(got))
                # Objects are written once: another ETag or size is another object, or a damaged answer.
                if known is not None and (said.total_bytes, said.etag) != (known.total_bytes, known.etag):
                    raise OddAnswer(f"{name} was another object when it was read on")
                known = said
                wanted = min(length, said.total_bytes - offset)
                while len(got) < wanted and (piece := answer["Body"].read(min(_READ_BYTES, wanted - len(got)))):
                    got.extend(piece)
            finally:
                answer["Body"].close()
            if len(got) < wanted:
                raise OddAnswer(f"the body of {name} was cut after {len(got)} of {wanted} bytes")
            return _Part(bytes(got), said.total_bytes, said.etag)

        return self._patience.call(f"read {name} from", attempt)

    def _ask(self, name: str, start: int, end: int) -> Any:
        try:
            return self._client.get_object(
                Bucket=self._place.bucket, Key=self._place.key(name), Range=f"bytes={start}-{end}"
            )
        except ClientError as problem:
            if is_missing(problem):
                raise missing(name, self._place) from problem
            if code_of(problem) == "InvalidRange" or status_of(problem) == 416:
                self._believe_end(name, start)
                raise _PastTheEnd from problem
            raise

    def _believe_end(self, name: str, start: int) -> None:
        """An object that ends before ``start`` says so twice; the second time by its size."""
        size = int(self._client.head_object(Bucket=self._place.bucket, Key=self._place.key(name))["ContentLength"])
        if size > start:
            raise OddAnswer(f"{name} has {size} bytes, and none at {start}")

    @staticmethod
    def _said(answer: Any, start: int) -> _Part:
        match = _CONTENT_RANGE.fullmatch(answer.get("ContentRange") or "")
        if (
            match is None and start == 0 and not answer.get("ContentRange")
        ):  # all of it, which a server may send instead
            return _Part(b"", int(answer["ContentLength"]), answer.get("ETag", ""))
        if match is None or int(match[1]) != start:
            raise OddAnswer(f"the server sent the range {answer.get('ContentRange')!r}, not that from {start}")
        return _Part(b"", int(match[3]), answer.get("ETag", ""))


def missing(name: str, place: S3Place) -> ObjectMissing:
    """The error for an object that is not there."""
    return ObjectMissing(
        f"the archive {place.url()} has no object {name}",
        because="it was deleted, or never written",
        next_step="see what else is missing: backupctl verify --level presence",
        object=name,
    )
