"""Objects out of the way: asked for in bulk, each result looked at, and then seen to be gone.

In a bucket with versions a delete puts a marker in front of the object: it is gone
for every listing and reader, and its bytes leave when the bucket's lifecycle rule
for noncurrent versions says so (contrib/s3 has one).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Any

from botocore.exceptions import ClientError

from backupd.archive.s3.patience import Patience
from backupd.archive.s3.place import S3Place
from backupd.archive.s3.words import FAILURES, OddAnswer, again_may_help, code_of, is_missing, is_refusal, one_line
from backupd.errors import KeptByLock
from backupd.ports import StoredObject

_BATCH = 1000  # keys in one request, by the protocol


class Deleting:
    """Deletes objects of one place; ``find`` lists them."""

    def __init__(
        self, client: Any, place: S3Place, patience: Patience, find: Callable[[str], Iterable[StoredObject]]
    ) -> None:
        self._client = client
        self._place = place
        self._patience = patience
        self._find = find
        self._in_bulk = True

    def delete(self, names: Sequence[str]) -> list[KeptByLock]:
        """Delete them; an error for each that the server keeps. Raises ArchiveUnreachable."""
        kept: dict[str, str] = {}
        for start in range(0, len(names), _BATCH):
            kept |= self._batch(names[start : start + _BATCH])
        return [self._kept(name, because) for name, because in kept.items()]

    def _batch(self, names: Sequence[str]) -> dict[str, str]:
        left = set(names)
        kept: dict[str, str] = {}

        def attempt() -> None:
            refused = self._request(sorted(left))
            kept.update(refused)
            left.difference_update(refused)
            # A server's "deleted" is not believed: some have said it and kept the objects.
            left.intersection_update(self._still_there(left))
            if left:
                raise OddAnswer(f"the server says that it deleted {min(left)}, and it is still there")

        what = f"delete {names[0]} from" if len(names) == 1 else f"delete {len(names)} objects from"
        self._patience.call(what, attempt)
        return kept

    def _request(self, names: list[str]) -> dict[str, str]:
        """Ask for it; the names that are refused, with the reason."""
        if len(names) > 1 and self._in_bulk:
            try:
                return self._request_many(names)
            except ClientError as problem:
                if again_may_help(problem) or code_of(problem) in {"NoSuchBucket", "RequestTimeTooSkewed"}:
                    raise
                # Some servers have no such request, or want it signed otherwise; one by one works everywhere.
                self._in_bulk = False
        refused: dict[str, str] = {}
        for name in names:
            try:
                self._client.delete_object(Bucket=self._place.bucket, Key=self._place.key(name))
            except ClientError as problem:
                if is_refusal(problem):
                    refused[name] = _because(code_of(problem), problem.response.get("Error", {}).get("Message"))
                elif not is_missing(problem):
                    raise
        return refused

    def _request_many(self, names: list[str]) -> dict[str, str]:
        keys = {self._place.key(name): name for name in names}
        answer = self._client.delete_objects(
            Bucket=self._place.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
        refused: dict[str, str] = {}
        for each in answer.get("Errors", []):
            code = str(each.get("Code", ""))
            if is_refusal(code) and each.get("Key") in keys:
                refused[keys[each["Key"]]] = _because(code, each.get("Message"))
            # What else went wrong is still there, and is asked for again.
        return refused

    def _still_there(self, names: set[str]) -> set[str]:
        if not names:
            return set()
        if len(names) == 1:
            (name,) = names
            return {name} if self._head(name) is not None else set()
        return names & {each.name for each in self._find(_common_start(min(names), max(names)))}

    def _head(self, name: str) -> Any:
        try:
            return self._client.head_object(Bucket=self._place.bucket, Key=self._place.key(name))
        except ClientError as problem:
            if is_missing(problem):
                return None
            raise

    def _kept(self, name: str, because: str) -> KeptByLock:
        until = None
        try:
            until = (self._head(name) or {}).get("ObjectLockRetainUntilDate")
        except FAILURES:
            pass  # the date only makes the sentence better
        when = f"it is locked until {until:%Y-%m-%d %H:%M} UTC" if until else because
        return KeptByLock(
            f"{name} cannot be deleted from the archive {self._place.url()} yet",
            because=when,
            next_step="the next prune tries it again; a role that may delete is in contrib/s3: pruner-policy.json",
            object=name,
        )


def _common_start(first: str, last: str) -> str:
    """What two names, and so all that sort between them, begin with."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(one for one, _ in same)


def _because(code: str, message: Any) -> str:
    return f"it is locked, or these credentials may not delete ({code}: {one_line(message or 'nothing more')})"
