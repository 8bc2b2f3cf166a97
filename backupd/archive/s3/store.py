"""An archive in an S3 bucket: each object one PUT that fails when the name is taken."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from backupd.archive.s3.body import Body
from backupd.archive.s3.client import connect
from backupd.archive.s3.deleting import Deleting
from backupd.archive.s3.patience import Patience
from backupd.archive.s3.place import S3Place
from backupd.archive.s3.probing import ONCE, overwrites, probe_server, usual_headers
from backupd.archive.s3.reading import Reading, missing
from backupd.archive.s3.words import OddAnswer, is_missing, is_taken
from backupd.errors import KeptByLock, ObjectExists
from backupd.ports import Probe, StoredObject, StoreFeature
from backupd.steps import step

NONCE, SHA256 = "backupd-nonce", "backupd-sha256"  # the object's own metadata
_LOOK_FIRST_BYTES = 1 << 20


class S3Store:
    """The ``ObjectStore`` in a bucket.

    An object is durable when ``create`` returns, so ``sync`` has nothing to do.
    A delete in a bucket with versions makes the object gone for listing and reading;
    its bytes leave by the bucket's lifecycle rule.  ``forget_cached`` asks whether the
    object is there: nothing is cached here.
    """

    def __init__(self, place: S3Place, *, patience: Patience | None = None, client: Any = None) -> None:
        self.features: frozenset[StoreFeature] = frozenset()
        self._place = place
        self._client = client or connect(place)
        self._patience = patience or Patience(place)
        self._reading = Reading(self._client, place, self._patience)
        self._deleting = Deleting(self._client, place, self._patience, self.list)
        self._known = False

    def describe(self) -> str:
        """``s3://bucket/prefix``, and the endpoint where it is not Amazon's."""
        endpoint = str(self._client.meta.endpoint_url)
        amazon = endpoint.endswith((".amazonaws.com", ".amazonaws.com.cn"))
        return self._place.url() if amazon else f"{self._place.url()} at {endpoint.rpartition('@')[2]}"

    # --- what the server honours ---

    def probe(self) -> Probe:
        """See ``ProbedStore.probe``. Raises Refused, ArchiveUnreachable."""
        found = probe_server(self._client, self._place, self._patience, self._deleting, self.list)
        self.trust(found.features)
        return found

    def trust(self, features: frozenset[StoreFeature]) -> None:
        """See ``ProbedStore.trust``."""
        self.features = features
        self._known = True

    # --- the port ---

    def create(
        self, name: str, pieces: Iterable[bytes | memoryview], *, retain_until: datetime | None = None
    ) -> StoredObject:
        """Write an object whole, or not at all (see ``ObjectStore.create``). Raises ObjectExists, Refused."""
        self._place.key(name)
        if not self._known:
            self.probe()
        if not self._once and not self._place.single_writer:
            raise overwrites(self._place)
        step("store.create")
        with Body() as body:
            looked = False
            for piece in pieces:
                body.add(piece)
                if not looked and body.size_bytes > _LOOK_FIRST_BYTES:
                    # A log file that another backup stored is not made and sent only to be refused.
                    looked = True
                    if self._facts(name) is not None:
                        raise _taken(name)
            step("store.put")
            self._put(name, body, self._lock(retain_until))
            return StoredObject(name, body.size_bytes, body.sha256)

    def read(self, name: str) -> Iterator[bytes]:
        """The object's bytes in pieces of at most 4 MiB, fetched in parallel. Raises ObjectMissing."""
        self._place.key(name)
        yield from self._reading.pieces(name)

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; fewer only at the end. Raises ObjectMissing."""
        self._place.key(name)
        return self._reading.range(name, offset, length)

    def stat(self, name: str) -> StoredObject:
        """Its size. Raises ObjectMissing."""
        facts = self._facts(name)
        if facts is None:
            raise missing(name, self._place)
        return StoredObject(name, int(facts["ContentLength"]))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose name begins with ``prefix``, sorted by name."""
        for page in self._pages(prefix):
            for each in page.get("Contents", []):
                name = self._place.name(each["Key"])
                if name and not name.endswith("/"):  # what a console makes to show an empty folder is no object
                    yield StoredObject(name, int(each["Size"]))

    def list_folders(self, prefix: str) -> Iterator[str]:
        """See ``ListsFolders``: a request for each 1,000 folders."""
        for page in self._pages(prefix, Delimiter="/"):
            for each in page.get("CommonPrefixes", []):
                yield f"{self._place.name(each['Prefix'].removesuffix('/'))}/"

    def delete(self, name: str) -> None:
        """Remove an object; it may be gone already. Raises KeptByLock."""
        for kept in self.delete_many([name]):
            raise kept

    def delete_many(self, names: Sequence[str]) -> Sequence[KeptByLock]:
        """Remove them in bulk (see ``DeletesMany``)."""
        for name in names:
            self._place.key(name)
        step("store.delete")
        return self._deleting.delete(names)

    def forget_cached(self, name: str) -> None:
        """Nothing is cached. Raises ObjectMissing."""
        self.stat(name)

    def sync(self) -> None:
        """Nothing to do: what the server has accepted is durable."""
        step("store.sync")

    # --- requests ---

    @property
    def _once(self) -> bool:
        return StoreFeature.CREATE_ONCE in self.features

    def _put(self, name: str, body: Body, more: dict[str, Any]) -> None:
        nonce = secrets.token_hex(16)
        metadata = {NONCE: nonce, SHA256: body.sha256}

        def attempt() -> None:
            if not self._once and self._ours(name, nonce):
                return
            try:
                self._client.put_object(
                    Bucket=self._place.bucket,
                    Key=self._place.key(name),
                    Body=body.whole(),
                    Metadata=metadata,
                    **body.headers(),
                    **(ONCE if self._once else {}),
                    **usual_headers(self._place),
                    **more,
                )
            except ClientError as problem:
                if not is_taken(problem):
                    raise
                # An answer that was lost (botocore tries again by itself too) comes back as "taken": by us.
                if not self._ours(name, nonce):
                    raise OddAnswer(f"{name} was taken a moment ago, and is gone now") from problem

        self._patience.call(f"write {name} to", attempt)

    def _ours(self, name: str, nonce: str) -> bool:
        """Whether this very call has written it; False: the name is free. Raises ObjectExists."""
        facts = self._head(name)
        if facts is None:
            return False
        if facts.get("Metadata", {}).get(NONCE) != nonce:
            raise _taken(name)
        return True

    def _lock(self, retain_until: datetime | None) -> dict[str, Any]:
        if retain_until is None or self._place.object_lock == "none":
            return {}
        return {"ObjectLockMode": self._place.object_lock.upper(), "ObjectLockRetainUntilDate": retain_until}

    def _facts(self, name: str) -> Any:
        """What a HEAD says; None when the object is not there. Raises ArchiveUnreachable."""
        self._place.key(name)
        return self._patience.call(f"look at {name} in", lambda: self._head(name))

    def _head(self, name: str) -> Any:
        try:
            return self._client.head_object(Bucket=self._place.bucket, Key=self._place.key(name))
        except ClientError as problem:
            if is_missing(problem):
                return None
            raise

    def _pages(self, prefix: str, **words: str) -> Iterator[Any]:
        """The answers of a listing, one after the other."""
        start = self._place.below(prefix)
        more = words
        while True:
            page = self._patience.call("list", partial(self._page, start, **more))
            yield page
            if not page.get("IsTruncated"):
                return
            more = {**words, "ContinuationToken": page["NextContinuationToken"]}

    def _page(self, start: str, **words: str) -> Any:
        page = self._client.list_objects_v2(Bucket=self._place.bucket, Prefix=start, **words)
        strange = [each["Key"] for each in page.get("Contents", []) if not each["Key"].startswith(start)]
        if strange or (page.get("IsTruncated") and not page.get("NextContinuationToken")):
            raise OddAnswer(f"the listing of {start} is not one: {strange[:1] or 'it has no end and no next page'}")
        return page


def _taken(name: str) -> ObjectExists:
    return ObjectExists(
        f"the archive has an object {name} already",
        because="objects are written once and never overwritten",
        next_step="run the command again; it takes a new name",
        object=name,
    )
