"""What only a store in a bucket promises: lost answers, cut bodies, lies about deletes, patience with an end, words."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupd import steps
from backupd.archive.s3 import body as s3_body
from backupd.archive.s3.reading import PART_BYTES
from backupd.archive.s3.store import NONCE, SHA256, S3Store
from backupd.digests import sha256_hex
from backupd.errors import ArchiveUnreachable, BackupdError, InjectedFault, KeptByLock, ObjectExists, ObjectMissing
from backupd.ports import StoreFeature
from tests.faults.s3_proxy import Choose, Request, proxied
from tests.s3_servers import S3Server, hurried, quick_store, tls_server

BIG = bytes(range(256)) * (3 * PART_BYTES // 256) + b"and a rest"


class Ticks:
    """A clock that only sleeping moves, so that no test waits."""

    def __init__(self) -> None:
        self.time = 0.0
        self.lock = threading.Lock()

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.time += seconds


def on(method: str, fault: str, *, times: int = 1, key: str = "", query: str = "") -> Choose:
    """Do ``fault`` to the first ``times`` such requests."""
    left = [times]

    def choose(request: Request) -> str:
        if left[0] and request.method == method and key in request.key and query in request.query:
            left[0] -= 1
            return fault
        return ""

    return choose


def ready(server: S3Server, url: str, **words: object) -> S3Store:
    """A store behind a proxy that knows its server already, and never really waits."""
    place = replace(server.place(), endpoint_url=url, **words)  # type: ignore[arg-type]
    ticks = Ticks()
    store = hurried(place, now=ticks.now, sleep=ticks.sleep)
    store.trust(frozenset({StoreFeature.CREATE_ONCE}))
    return store


# --- writing ---


def test_an_object_carries_its_sum_and_who_wrote_it(server: S3Server) -> None:
    place = server.place(storage_class="STANDARD_IA")
    stored = S3Store(place).create("x/y", [b"some ", b"bytes"])
    head = server.client().head_object(Bucket=place.bucket, Key="here/orders/x/y")
    assert head["Metadata"][SHA256] == stored.sha256 == sha256_hex(b"some bytes")
    assert len(head["Metadata"][NONCE]) == 32
    assert head["StorageClass"] == "STANDARD_IA"


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_our_own_lost_answer_is_no_other_s_object(server: S3Server, times: int) -> None:
    """The PUT arrives, its answer does not; the repeated PUT, botocore's or ours, is refused: by ourselves."""
    with proxied(server.url, on("PUT", "lost", times=times)) as proxy:
        store = ready(server, proxy.url)
        assert store.create("x", [b"ours"]).size_bytes == 4
        assert proxy.faults["lost"] == times
    assert b"".join(store_at(store, server).read("x")) == b"ours"


def test_another_s_object_is_found_also_when_answers_are_lost(server: S3Server) -> None:
    with proxied(server.url, on("PUT", "lost", times=2)) as proxy:
        store = ready(server, proxy.url)
        store_at(store, server).create("x", [b"theirs"])
        with pytest.raises(ObjectExists):
            store.create("x", [b"theirs"])
        assert b"".join(store.read("x")) == b"theirs"


def test_bytes_that_are_damaged_on_the_way_are_sent_again(server: S3Server) -> None:
    with proxied(server.url, on("PUT", "wrong")) as proxy:
        store = ready(server, proxy.url)
        store.create("x", [BIG])
        assert proxy.faults["wrong"] == 1
    assert b"".join(store_at(store, server).read("x")) == BIG


def test_what_is_there_is_not_sent_again(server: S3Server) -> None:
    """A differential finds the log files since the full in the archive already."""
    place = server.place()
    S3Store(place).create("log", [BIG])
    taken: list[int] = []

    def pieces() -> object:
        for start in range(0, len(BIG), 1 << 20):
            taken.append(start)
            yield BIG[start : start + (1 << 20)]

    with pytest.raises(ObjectExists):
        S3Store(place).create("log", pieces())  # type: ignore[arg-type]
    assert len(taken) < 4


def test_a_very_large_object_goes_by_a_file(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_body, "_MEMORY_BYTES_MAX", 1 << 20)
    store = server.store()
    assert store.create("map", [BIG[:3], BIG[3:]]).sha256 == sha256_hex(BIG)
    assert b"".join(store.read("map")) == BIG
    monkeypatch.setattr(s3_body, "_OBJECT_BYTES_MAX", 1 << 21)
    with pytest.raises(BackupdError, match="5 GiB"):
        store.create("more", [BIG])


def test_a_lock_is_set_when_it_is_written(server: S3Server) -> None:
    place = server.place(locked=True, object_lock="compliance")
    store = quick_store(place)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    store.create("locked", [b"1"], retain_until=until)
    store.create("free", [b"2"])
    head = server.client().head_object(Bucket=place.bucket, Key="here/orders/locked")
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("COMPLIANCE", until)
    assert "ObjectLockMode" not in server.client().head_object(Bucket=place.bucket, Key="here/orders/free")
    store.delete("locked")
    assert [each.name for each in store.list("")] == ["free"], "a marker hides it"
    with pytest.raises(server.client().exceptions.ClientError, match="AccessDenied"):
        server.client().delete_object(Bucket=place.bucket, Key="here/orders/locked", VersionId=head["VersionId"])


# --- reading ---


@pytest.mark.parametrize("fault", ["cut", "wrong-range", "500", "dropped"])
def test_a_broken_read_goes_on_where_it_broke(server: S3Server, fault: str) -> None:
    with proxied(server.url, on("GET", "cut" if fault == "wrong-range" else fault, times=5)) as proxy:
        store = ready(server, proxy.url)
        store_at(store, server).create("x", [BIG])
        assert b"".join(store.read("x")) == BIG
        assert store.read_range("x", PART_BYTES - 5, PART_BYTES + 10) == BIG[PART_BYTES - 5 : 2 * PART_BYTES + 5]


def test_a_reader_that_stops_leaves_nothing_behind(server: S3Server) -> None:
    store = server.store()
    store.create("x", [BIG])
    pieces = iter(store.read("x"))
    next(pieces)
    del pieces
    assert b"".join(store.read("x")) == BIG


def test_an_object_that_changes_while_it_is_read_is_no_object(server: S3Server) -> None:
    place = server.place()
    ticks = Ticks()
    store = hurried(place, now=ticks.now, sleep=ticks.sleep)
    store.create("x", [BIG])
    pieces = iter(store.read("x"))
    next(pieces)
    server.client().put_object(Bucket=place.bucket, Key="here/orders/x", Body=bytes(len(BIG)))
    with pytest.raises(ArchiveUnreachable, match="cannot read x"):
        b"".join(pieces)


# --- listing ---


def test_a_listing_of_many_pages(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "7")
    place = server.place()
    client = server.client()
    for number in range(23):
        client.put_object(Bucket=place.bucket, Key=f"here/orders/n/{number:04d}", Body=b"")
    client.put_object(Bucket=place.bucket, Key="here/orders/n/", Body=b"")  # a console's empty folder
    client.put_object(Bucket=place.bucket, Key="here/orders-2/n/x", Body=b"")
    store = quick_store(place)
    found = [each.name for each in store.list("n/")]
    assert found == [f"n/{number:04d}" for number in range(23)]
    assert store.delete_many(found) == []
    assert list(store.list("")) == []
    assert client.list_objects_v2(Bucket=place.bucket)["KeyCount"] == 2


# --- deleting ---


@pytest.mark.parametrize("many", [1, 5])
def test_a_lie_about_a_delete_is_found_out(server: S3Server, many: int) -> None:
    names = [f"d/{number}" for number in range(many)]
    method = "DELETE" if many == 1 else "POST"
    with proxied(server.url, on(method, "lie", times=2)) as proxy:
        store = ready(server, proxy.url)
        for name in names:
            store.create(name, [b"1"])
        assert store.delete_many(names) == []
        assert proxy.faults["lie"] == 2
        assert not list(store.list("d/"))
    with proxied(server.url, on(method, "lie", times=10**6)) as proxy:
        store = ready(server, proxy.url)
        for name in names:
            store.create(name, [b"1"])
        with pytest.raises(ArchiveUnreachable, match="cannot delete") as caught:
            store.delete_many(names)
        assert "it is still there" in caught.value.because


def test_what_may_not_be_deleted_is_kept_for_later(server: S3Server) -> None:
    with proxied(server.url, on("DELETE", "denied", times=1)) as proxy:
        store = ready(server, proxy.url)
        store.create("x", [b"1"])
        with pytest.raises(KeptByLock) as caught:
            store.delete("x")
        assert caught.value.details["object"] == "x"
        assert "contrib/s3" in caught.value.next_step
        assert store.stat("x").size_bytes == 1
        store.delete("x")


def test_each_key_of_a_bulk_delete_has_its_own_result(server: S3Server) -> None:
    with proxied(server.url, on("POST", "keep:data/2", times=10)) as proxy:
        store = ready(server, proxy.url)
        names = [f"data/{number}" for number in range(4)]
        for name in names:
            store.create(name, [b"1"])
        (kept,) = store.delete_many(names)
        assert kept.details["object"] == "data/2"
        assert [each.name for each in store.list("data/")] == ["data/2"]


def test_a_server_without_bulk_deletes_is_asked_one_by_one(server: S3Server) -> None:
    with proxied(server.url, on("POST", "unknown", times=10)) as proxy:
        store = ready(server, proxy.url)
        names = [f"d/{number}" for number in range(4)]
        for name in names:
            store.create(name, [b"1"])
        assert store.delete_many(names) == []
        assert store.delete_many(names) == []
        assert proxy.faults["unknown"] == 1, "it is not asked twice"


# --- an end to patience, and words ---


@pytest.mark.parametrize("fault", ["500", "503", "429", "dropped", "lost"])
def test_a_storm_ends_at_the_deadline_in_three_lines(server: S3Server, fault: str) -> None:
    with proxied(server.url) as proxy:
        store = ready(server, proxy.url)
        store.create("x", [b"1"])
        proxy.choose = lambda _: fault
        calls: list[Callable[[], object]] = [
            lambda: store.create("y", [b"1"]),
            lambda: list(store.read("x")),
            lambda: store.stat("x"),
            lambda: list(store.list("")),
            lambda: store.delete("x"),
        ]
        for call in calls:
            with pytest.raises(ArchiveUnreachable) as caught:
                call()
            assert "times in" in caught.value.because
            assert len(caught.value.lines()) == 3


def test_a_server_that_says_nothing_is_left(server: S3Server) -> None:
    with proxied(server.url) as proxy:
        place = ready(server, proxy.url)._place
        proxy.choose = lambda _: "stall"
        store = S3Store(replace(place, deadline_seconds=1))
        with pytest.raises(ArchiveUnreachable) as caught:
            store.stat("x")
        assert "timeout" in caught.value.because.lower()


@pytest.mark.parametrize(
    ("fault", "because", "helps"),
    [
        ("skew", "clock", "timedatectl"),
        ("denied", "may not", "contrib/s3"),
        ("keys", "does not know this access key", "AWS_"),
        ("signature", "secret key", "AWS_SECRET_ACCESS_KEY"),
        ("unknown", "does not know this request", "backupctl check"),
        ("503", "does not keep up", "later"),
    ],
)
def test_the_words_say_what_to_do(server: S3Server, fault: str, because: str, helps: str) -> None:
    with proxied(server.url) as proxy:
        store = ready(server, proxy.url)
        proxy.choose = lambda _: fault
        with pytest.raises(ArchiveUnreachable) as caught:
            store.create("x", [b"1"])
        assert because in caught.value.because
        assert helps in caught.value.next_step
        assert caught.value.exit_status == 8


def test_a_bucket_that_is_not_there(server: S3Server) -> None:
    store = S3Store(replace(server.place(), bucket="nobody-s-bucket"))
    with pytest.raises(ArchiveUnreachable) as caught:
        store.create("x", [b"1"])
    assert "there is no bucket nobody-s-bucket" in caught.value.because
    with pytest.raises(ArchiveUnreachable):
        list(store.list(""))
    with pytest.raises(ArchiveUnreachable):
        list(store.read("x"))


def test_no_credentials(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = server.place()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ArchiveUnreachable) as caught:
        S3Store(place).stat("x")
    assert "aws configure" in caught.value.next_step
    monkeypatch.setenv("AWS_PROFILE", "of-nobody")
    with pytest.raises(ArchiveUnreachable, match="cannot be opened"):
        S3Store(place)


def test_a_name_that_nobody_knows_is_said_and_not_waited_for(server: S3Server) -> None:
    ticks = Ticks()
    place = replace(server.place(), endpoint_url="http://s3.invalid", deadline_seconds=3000)
    with pytest.raises(ArchiveUnreachable) as caught:
        hurried(place, now=ticks.now, sleep=ticks.sleep).stat("x")
    assert "s3.invalid" in caught.value.because
    assert "endpoint_url" in caught.value.next_step
    assert ticks.time < 60


def test_a_certificate_that_is_not_trusted_is_said_at_once(tmp_path: Path, server: S3Server) -> None:
    with tls_server(tmp_path) as (url, certificate):
        ticks = Ticks()
        place = replace(server.place(), endpoint_url=url)
        with pytest.raises(ArchiveUnreachable) as caught:
            hurried(place, now=ticks.now, sleep=ticks.sleep).stat("x")
        assert "ca_bundle" in caught.value.next_step
        assert ticks.time == 0
        with pytest.raises(ObjectMissing):
            S3Store(replace(place, ca_bundle=str(certificate))).stat("x")


def test_boto3_s_variables_work(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    place = server.place()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    store = S3Store(replace(place, endpoint_url=None))
    store.create("x", [b"1"])
    assert server.url in store.describe()
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert S3Store(replace(place, endpoint_url=None)).describe() == f"s3://{place.bucket}/here/orders"


@pytest.mark.parametrize("where", ["store.create", "store.put", "store.delete"])
def test_every_step_can_fail_and_be_repeated(server: S3Server, where: str) -> None:
    store = server.store()

    def walk() -> None:
        try:
            store.create("a/x", [b"1"])
        except ObjectExists:
            pass
        store.delete("a/x")

    steps.arm("fail", 1, where)
    try:
        with pytest.raises(InjectedFault):
            walk()
    finally:
        steps.disarm()
    walk()
    assert not list(store.list("a/"))


def store_at(store: S3Store, server: S3Server) -> S3Store:
    """The same place without a proxy."""
    direct = quick_store(replace(store._place, endpoint_url=server.url))
    direct.trust(store.features)
    return direct
