"""What a server honours is tried out before anything is written to it, recorded, and refused when it is too little."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from backupd.archive.repository import Repository
from backupd.archive.s3.store import S3Store
from backupd.errors import ArchiveUnreachable, Refused
from backupd.ports import StoreFeature
from tests.archive_builders import ObedientClock
from tests.faults.s3_proxy import Request, proxied
from tests.s3_servers import S3Server


def test_moto_is_seen_as_it_is(server: S3Server) -> None:
    store = server.store()
    probe = store.probe()
    assert probe.features == {StoreFeature.CREATE_ONCE}
    assert "creates once" in probe.sentences
    assert any("no sums" in sentence for sentence in probe.sentences)
    assert not list(store.list("")), "nothing is left"


def test_a_strict_server_is_seen_as_it_is(server: S3Server) -> None:
    with proxied(server.url) as proxy:
        probe = S3Server(proxy.url).store().probe()
    assert StoreFeature.CHECKS_ON_ARRIVAL in probe.features
    assert "checks SHA-256 and MD5 on arrival" in probe.sentences


def test_a_server_that_overwrites_is_refused_before_anything_is_written(server: S3Server) -> None:
    with proxied(server.url, overwrites=True) as proxy:
        store = S3Server(proxy.url).store()
        with pytest.raises(Refused, match="cannot be used safely") as caught:
            store.create("x", [b"1"])
        assert "single_writer" in caught.value.next_step
        assert not list(store.list(""))
        with pytest.raises(Refused):
            Repository.create(S3Store(store._place), ObedientClock())
        assert not list(store.list(""))


@pytest.mark.parametrize("knows", [True, False])
def test_a_single_writer_may_accept_it(server: S3Server, knows: bool) -> None:
    with proxied(server.url, overwrites=knows) as proxy:
        if not knows:
            proxy.choose = lambda request: (
                "unknown" if request.number and request.key.endswith("once") and first() else ""
            )
            answers = iter([True])

            def first() -> bool:
                return next(answers, False)

        store = S3Server(proxy.url).store(single_writer=True)
        probe = store.probe()
        assert StoreFeature.CREATE_ONCE not in probe.features
        assert any("OVERWRITES" in sentence for sentence in probe.sentences)


def test_a_listing_that_lags_is_refused(server: S3Server) -> None:
    with proxied(server.url, lambda _: "empty") as proxy, pytest.raises(Refused, match="cannot be used") as caught:
        S3Server(proxy.url).store().probe()
    assert "list" in caught.value.because


@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_a_lock_is_proven(server: S3Server, mode: str) -> None:
    probe = server.store(locked=True, object_lock=mode).probe()
    assert StoreFeature.OBJECT_LOCK in probe.features
    assert f"locks objects ({mode})" in probe.sentences


def test_a_bucket_without_locks_is_refused_when_the_policy_wants_them(server: S3Server) -> None:
    with pytest.raises(Refused, match="does not lock objects") as caught:
        server.store(object_lock="compliance").probe()
    assert "--object-lock-enabled-for-bucket" in caught.value.next_step


def test_who_may_not_delete_is_told_so(server: S3Server) -> None:
    def refuse(request: Request) -> str:
        return "denied" if request.method == "DELETE" or "delete" in request.query else ""

    with proxied(server.url, refuse) as proxy:
        probe = S3Server(proxy.url).store().probe()
    assert "these credentials may not delete" in probe.sentences


def test_no_bucket_is_said_as_that(server: S3Server) -> None:
    with pytest.raises(ArchiveUnreachable) as caught:
        S3Store(replace(server.place(), bucket="nobody-s-bucket")).probe()
    assert "there is no bucket" in caught.value.because
    assert caught.value.problem.startswith("cannot write")


def test_the_archive_remembers_what_its_server_honours(server: S3Server) -> None:
    with proxied(server.url) as proxy:
        place = S3Server(proxy.url).place()
        Repository.create(S3Store(place), ObedientClock())
        probes = sum(request.key.startswith("here/orders/probe/") for request in proxy.requests)
        assert probes > 0
        store = S3Store(place)
        content = json.loads(b"".join(store.read("repo.json")).partition(b"\n")[2])
        assert content["features"] == ["checks-on-arrival", "create-once"]
        Repository.create(store, ObedientClock())
        store.create("x", [b"1"])
        assert sum(request.key.startswith("here/orders/probe/") for request in proxy.requests) == probes
    # The same objects on another server say nothing about that one.
    elsewhere = S3Store(replace(place, endpoint_url=server.url))
    Repository.create(elsewhere, ObedientClock())
    elsewhere.create("y", [b"1"])
    assert elsewhere.features == {StoreFeature.CREATE_ONCE}, "it was probed"
