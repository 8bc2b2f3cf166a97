"""The S3 store keeps the store's contract over HTTP: on moto, on a server that is strict, on one that overwrites."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backupd.ports import ObjectStore
from tests.contracts.store_contract import StoreContract
from tests.faults.s3_proxy import S3Proxy, proxied
from tests.s3_memory import MemoryS3
from tests.s3_servers import S3Server, moto_server


class TestOnMoto(StoreContract):
    def make_store(self) -> ObjectStore:
        return moto_server().store()


class TestInABucketOfItsOwn(StoreContract):
    def make_store(self) -> ObjectStore:
        return moto_server().store(prefix="")


class TestWithObjectLock(StoreContract):
    """A bucket with versions: a delete makes a marker, and a name may be taken again after it."""

    def make_store(self) -> ObjectStore:
        return moto_server().store(locked=True, object_lock="governance")


class TestOnAStrictServer(StoreContract):
    """One that compares sums."""

    @pytest.fixture(autouse=True)
    def _proxy(self) -> Iterator[None]:
        with proxied(moto_server().url) as self.proxy:
            yield

    proxy: S3Proxy

    def make_store(self) -> ObjectStore:
        return S3Server(self.proxy.url).store()


class TestOnTheServerInMemory(StoreContract):
    """What the thousand bad lines of tests/faults run on."""

    @pytest.fixture(autouse=True)
    def _proxy(self) -> Iterator[None]:
        with proxied(MemoryS3()) as self.proxy:
            yield

    proxy: S3Proxy

    def make_store(self) -> ObjectStore:
        return S3Server(self.proxy.url).store()


class TestWithASingleWriter(StoreContract):
    """A server that overwrites, and a policy that accepts it: all of the contract but the race."""

    @pytest.fixture(autouse=True)
    def _proxy(self) -> Iterator[None]:
        with proxied(moto_server().url, overwrites=True) as self.proxy:
            yield

    proxy: S3Proxy

    def make_store(self) -> ObjectStore:
        return S3Server(self.proxy.url).store(single_writer=True)

    def test_one_of_many_creators_wins(self, store: ObjectStore) -> None:
        """Nothing of the kind is promised: this is why it is refused by default."""
