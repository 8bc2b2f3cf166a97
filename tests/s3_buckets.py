"""A bucket that can be put back to what it was, so that each killed try begins from the same objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backupd.archive.s3.place import S3Place
from backupd.ports import ObjectStore
from tests.s3_servers import S3Server, quick_store

BOTH = ("backups", "second")


@dataclass(frozen=True)
class Bucket:
    """Where these ``archives`` of a world lie, each below a prefix of its own; see ``tests.runs.world.Elsewhere``."""

    url: str
    name: str
    archives: tuple[str, ...] = BOTH

    @classmethod
    def made(cls, server: S3Server, archives: tuple[str, ...] = BOTH) -> Bucket:
        """A new one."""
        return cls(server.url, server.place().bucket, archives)

    def store(self, archive: str) -> ObjectStore | None:
        """Opened anew; a process that was forked gets a client of its own."""
        if archive not in self.archives:
            return None
        return quick_store(S3Place(self.name, archive, endpoint_url=self.url, path_style=True, deadline_seconds=20))

    def keep(self) -> Bucket:
        """A copy of it, for ``put_back``."""
        kept = Bucket.made(S3Server(self.url), self.archives)
        _make_equal(S3Server(self.url).client(), self.name, kept.name)
        return kept

    def put_back(self, kept: Bucket) -> None:
        """What is in it is again what was kept, byte for byte.

        It stays the bucket that it was: an archive knows where its server was tried out by the bucket's name.
        """
        _make_equal(S3Server(self.url).client(), kept.name, self.name)


def _make_equal(client: Any, source: str, target: str) -> None:
    """The server copies; what is equal already stays."""
    wanted, there = _sums(client, source), _sums(client, target)
    for key in [key for key, found in there.items() if wanted.get(key) != found]:
        client.delete_object(Bucket=target, Key=key)
    for key in [key for key, found in wanted.items() if there.get(key) != found]:
        client.copy_object(Bucket=target, Key=key, CopySource={"Bucket": source, "Key": key})


def _sums(client: Any, bucket: str) -> dict[str, str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {each["Key"]: each["ETag"] for page in pages for each in page.get("Contents", [])}
