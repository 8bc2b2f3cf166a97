"""The same on a real server: Ceph's RADOS Gateway, which checks signatures, sums and locks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupd.archive.s3.store import S3Store
from backupd.archive.verify import Level, verify_database
from backupd.errors import ArchiveUnreachable, Refused
from backupd.ports import ObjectStore, StoreFeature
from tests.archive_builders import ObedientClock, open_archive, take_full, take_logs, write_log, write_pages
from tests.contracts.store_contract import StoreContract
from tests.rgw import CannotStand, rados_gateway
from tests.s3_servers import KEYS, S3Server

LOCKED: dict[str, Any] = {"locked": True, "object_lock": "compliance", "single_writer": True}
pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    try:
        with rados_gateway(tmp_path_factory.mktemp("rgw") / "work", KEYS) as url:
            yield S3Server(url)
    except CannotStand as why:
        pytest.skip(str(why))


class TestOnRadosGateway(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, gateway: S3Server) -> None:
        self.server = gateway

    def make_store(self) -> ObjectStore:
        return self.server.store()


class TestOnRadosGatewayWithObjectLock(TestOnRadosGateway):
    """This version does not create once in a bucket with versions, which Object Lock needs: one writer only."""

    def make_store(self) -> ObjectStore:
        return self.server.store(**LOCKED)

    def test_one_of_many_creators_wins(self, store: ObjectStore) -> None:
        """Nothing of the kind is promised to more than one writer."""


def test_it_is_seen_as_it_is(gateway: S3Server) -> None:
    probe = gateway.store().probe()
    assert probe.features == {StoreFeature.CREATE_ONCE, StoreFeature.CHECKS_ON_ARRIVAL}
    assert "checks MD5 on arrival" in probe.sentences
    with pytest.raises(Refused, match="does not lock"):
        gateway.store(object_lock="governance").probe()


def test_with_object_lock_it_overwrites_and_that_is_seen(gateway: S3Server) -> None:
    with pytest.raises(Refused, match="cannot be used safely"):
        gateway.store(locked=True, object_lock="compliance").probe()
    probe = gateway.store(**LOCKED).probe()
    assert probe.features == {StoreFeature.CHECKS_ON_ARRIVAL, StoreFeature.OBJECT_LOCK}
    assert any("OVERWRITES" in sentence for sentence in probe.sentences)


def test_what_is_locked_stays(gateway: S3Server) -> None:
    place = gateway.place(**LOCKED)
    until = datetime.now(UTC) + timedelta(days=30)
    S3Store(place).create("x", [b"1"], retain_until=until)
    client, where = gateway.client(), {"Bucket": place.bucket, "Key": "here/orders/x"}
    version = client.head_object(**where)["VersionId"]
    for more in ({}, {"BypassGovernanceRetention": True}):
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            client.delete_object(**where, VersionId=version, **more)
    sooner = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=1)}
    with pytest.raises(client.exceptions.ClientError):
        client.put_object_retention(**where, VersionId=version, Retention=sooner)


def test_a_wrong_secret_is_said(gateway: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    place = gateway.place()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(ArchiveUnreachable) as caught:
        S3Store(replace(place)).create("x", [b"1"])
    assert "secret key" in caught.value.because


def test_a_whole_archive(gateway: S3Server, tmp_path: Path) -> None:
    clock = ObedientClock()
    archive = open_archive(gateway.store(**LOCKED), clock)
    archive.lock_days = 1
    clock.time = datetime.now(UTC)
    full = take_full(archive, write_pages(tmp_path / "app.db", 3000), 0)
    take = take_logs(archive, full, [write_log(tmp_path, number) for number in (1, 2)])
    assert verify_database(archive, Level.DATA).sound
    archive.delete_backup(take.record.id, reason="test")
    archive.delete_backup(full.record.id, reason="test")
    assert archive.list().backups == ()
    assert [each.name for each in archive.store.list("db/")] == [f"db/{archive.dbid}/identity.json"]
