"""What an S3 server really honours, seen by trying: create-once, listing, sums, Object Lock, deleting."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from backupd.archive.s3.body import Body
from backupd.archive.s3.deleting import Deleting
from backupd.archive.s3.patience import Patience
from backupd.archive.s3.place import S3Place
from backupd.archive.s3.words import again_may_help, code_of, is_taken, status_of
from backupd.errors import BackupdError, Refused
from backupd.ports import Probe, StoredObject, StoreFeature

PREFIX = "probe/"
ONCE = {"IfNoneMatch": "*"}
_FIRST, _SECOND = b"first", b"second"
_LOCKED_SECONDS = 60.0


def probe_server(
    client: Any,
    place: S3Place,
    patience: Patience,
    deleting: Deleting,
    find: Callable[[str], Iterable[StoredObject]],
) -> Probe:
    """Try it out; see ``ProbedStore.probe``.

    Raises:
        Refused: it overwrites (and the policy does not accept that), it does not list what
            was just written, or the policy wants a lock that the bucket does not have.
        ArchiveUnreachable: it cannot be tried out now.
    """
    probing = _Probing(client, place, patience)
    try:
        features, told = _try_all(probing, place, find)
    except BaseException:
        with suppress(BackupdError):
            deleting.delete(sorted(probing.written))
        raise
    kept = deleting.delete(sorted(probing.written))
    told.append("these credentials may not delete" if kept else "deletes")
    return Probe(frozenset(features), tuple(told))


def _try_all(
    probing: _Probing, place: S3Place, find: Callable[[str], Iterable[StoredObject]]
) -> tuple[set[StoreFeature], list[str]]:
    features: set[StoreFeature] = set()
    told: list[str] = []
    if probing.creates_once():
        features.add(StoreFeature.CREATE_ONCE)
        told.append("creates once")
    elif place.single_writer:
        told.append("OVERWRITES, so one host alone may write to it (single_writer)")
    else:
        raise overwrites(place)
    if [each.name for each in find(f"{probing.prefix}/once")] != [f"{probing.prefix}/once"]:
        raise _lists_late(place)
    told.append("lists what was just written")
    if sums := probing.checks_sums():
        features.add(StoreFeature.CHECKS_ON_ARRIVAL)
        told.append(f"checks {sums} on arrival")
    else:
        told.append("checks no sums on arrival, so what is stored is read back")
    if place.object_lock != "none":
        probing.locks()
        features.add(StoreFeature.OBJECT_LOCK)
        told.append(f"locks objects ({place.object_lock})")
    return features, told


def overwrites(place: S3Place) -> Refused:
    """The refusal of a server that lets a second writer overwrite an object."""
    return Refused(
        f"the archive {place.url()} cannot be used safely",
        because="its server lets a second writer overwrite an object (it ignores If-None-Match)",
        next_step="use a server that honours it; or, when one host alone writes there: single_writer = true in [s3]",
    )


def _lists_late(place: S3Place) -> Refused:
    return Refused(
        f"the archive {place.url()} cannot be used",
        because="its server does not list an object that was just written",
        next_step="use a server with strong consistency; a cache in front of it must not answer lists",
    )


class _Probing:
    """The single attempts; ``written`` are the names that may be there afterwards."""

    def __init__(self, client: Any, place: S3Place, patience: Patience) -> None:
        self._client = client
        self._place = place
        self._patience = patience
        self._usual = usual_headers(place)
        self.prefix = f"{PREFIX}{secrets.token_hex(8)}"
        self.written: set[str] = set()

    def creates_once(self) -> bool:
        """Whether a taken name stays taken; from here on everything is written as the server wants it."""
        name = f"{self.prefix}/once"
        # The first PUT may be repeated by a retry and then find itself: what counts is that the second never wins.
        # Both say it, for a bucket's policy may let nothing in without.
        self._usual |= ONCE
        if self._put(name, _FIRST, is_answer=_is_unknown):
            self._put(name, _SECOND)
            if self._patience.call("read from", lambda: self._read(name)) == _FIRST:
                return True
            del self._usual["IfNoneMatch"]
            return False
        del self._usual["IfNoneMatch"]
        self._put(name, _FIRST)
        return False

    def checks_sums(self) -> str:
        """Which of the sums that we send it compares with what arrives; empty: none."""
        wrong = sums_of(_SECOND)
        checked = [
            word
            for word, header in (("SHA-256", "ChecksumSHA256"), ("MD5", "ContentMD5"))
            if not self._put(f"{self.prefix}/{header}", _FIRST, is_answer=_is_wrong_sum, **{header: wrong[header]})
        ]
        return " and ".join(checked)

    def locks(self) -> None:
        """Prove that a locked version cannot be deleted. Raises Refused."""
        name = f"{self.prefix}/locked"
        until = datetime.now(UTC) + timedelta(seconds=_LOCKED_SECONDS)
        words = {"ObjectLockMode": self._place.object_lock.upper(), "ObjectLockRetainUntilDate": until}
        if not self._put(name, _FIRST, is_answer=_is_no_lock, **sums_of(_FIRST), **words):
            raise self._not_locked("the bucket was made without Object Lock, or this role may not set retentions")
        version = self._patience.call("look at a probe in", lambda: self._head(name)).get("VersionId")
        if not version or self._delete_version(name, version):
            raise self._not_locked("an object that was locked for a minute could be deleted at once")

    def _not_locked(self, because: str) -> Refused:
        return Refused(
            f"the archive {self._place.url()} does not lock objects",
            because=because,
            next_step="make a bucket with Object Lock (aws s3api create-bucket --object-lock-enabled-for-bucket), "
            'or write object_lock = "none" in [s3]',
        )

    def _delete_version(self, name: str, version: str) -> bool:
        """Whether the server let it go."""

        def attempt() -> bool:
            try:
                self._client.delete_object(Bucket=self._place.bucket, Key=self._place.key(name), VersionId=version)
            except ClientError as problem:
                if again_may_help(problem):
                    raise
                return False
            return True

        return self._patience.call("delete a probe from", attempt)

    def _put(
        self, name: str, data: bytes, *, is_answer: Callable[[ClientError, int], bool] | None = None, **more: Any
    ) -> bool:
        """Whether the server took it; a refusal that ``is_answer`` accepts (it gets the attempts too) is no error."""
        attempts = 0

        def attempt() -> bool:
            nonlocal attempts
            attempts += 1
            words = {**self._usual, **more}
            try:
                self._client.put_object(Bucket=self._place.bucket, Key=self._place.key(name), Body=data, **words)
            except ClientError as problem:
                if is_taken(problem) and "IfNoneMatch" in words:
                    return True  # by an attempt before this one, or by the first of two
                if is_answer is not None and is_answer(problem, attempts):
                    return False
                raise
            return True

        self.written.add(name)
        return self._patience.call("write to", attempt)

    def _read(self, name: str) -> bytes:
        return bytes(self._client.get_object(Bucket=self._place.bucket, Key=self._place.key(name))["Body"].read())

    def _head(self, name: str) -> Any:
        return self._client.head_object(Bucket=self._place.bucket, Key=self._place.key(name))


def usual_headers(place: S3Place) -> dict[str, Any]:
    """What every PUT says, by the policy."""
    words: dict[str, Any] = {}
    if place.storage_class:
        words["StorageClass"] = place.storage_class
    if place.kms_key_id:
        words |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": place.kms_key_id}
    return words


def sums_of(data: bytes) -> dict[str, str]:
    """Both sums of some bytes, as a server checks them."""
    with Body() as body:
        body.add(data)
        return body.headers()


def _is_unknown(problem: ClientError, _: int) -> bool:
    """The server does not know If-None-Match and says so."""
    return status_of(problem) == 501 or code_of(problem) in {"NotImplemented", "InvalidArgument", "InvalidRequest"}


def _is_wrong_sum(problem: ClientError, attempts: int) -> bool:
    """It has compared. The same codes stand for damage on the way, so it is asked twice."""
    return status_of(problem) == 400 and (attempts > 1 or not again_may_help(problem))


def _is_no_lock(problem: ClientError, _: int) -> bool:
    return status_of(problem) in (400, 403, 501) and not again_may_help(problem)
