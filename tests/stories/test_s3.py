"""A real pair with an encrypted archive in a bucket: full, incremental, verify, restore, prune; and a bad bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.archive.age import new_identity
from tests.faults.s3_proxy import proxied
from tests.s3_servers import S3Server, keys_of_nobody, moto_server
from tests.stories.home import Home, home, sums_of

SECRET, RECIPIENT = new_identity()


@pytest.fixture(autouse=True)
def _keys() -> Iterator[None]:
    with keys_of_nobody():
        yield


def up(pair: Home, server: S3Server, more: str = "", **words: bool) -> str:
    """As ``Home.up``, with a new bucket as the archive; answers with its name."""
    place = server.place(prefix="team/orders", **words)
    pair.create()
    pair.init()
    text = pair.policy.read_text()
    key_file = pair.root / "key.txt"
    key_file.write_text(SECRET)
    pair.policy.write_text(
        text.replace(f"file://{pair.archive}", place.url())
        + f'\n[s3]\nendpoint_url = "{server.url}"\npath_style = true\ndeadline_seconds = "20s"\n{more}'
        + f'\n[encryption]\nmode = "age"\nrecipients = ["{RECIPIENT}"]\nkey_file = "{key_file}"\n'
    )
    pair.start_service()
    pair.wait_healthy()
    return place.bucket


@pytest.mark.slow
def test_a_pair_lives_with_a_bucket(tmp_path: Path) -> None:
    server = moto_server()
    with home(tmp_path / "home") as pair:
        bucket = up(pair, server, 'object_lock = "compliance"\nobject_lock_days = 40\n', locked=True)
        fit = pair.ok("check", "orders").out
        assert "creates once" in fit
        assert "locks objects (compliance)" in fit
        full = pair.backup("full")
        wanted = pair.commit()
        incremental = pair.backup()
        assert incremental["truncation"]["state"] == "truncated"
        locked = server.client().head_object(
            Bucket=bucket, Key=next(key for key in keys(server, bucket) if f"/backup/{full['id']}" in key)
        )
        assert locked["ObjectLockMode"] == "COMPLIANCE"
        assert not [key for key in keys(server, bucket) if "/probe/" in key]
        assert not [key for key in keys(server, bucket) if "/intent/" in key]

        pair.ok("verify", "--level", "data")
        pair.ok("restore", "orders", "--target", str(tmp_path / "out"))
        assert sums_of(tmp_path / "out" / "app.db") == (wanted.rows, wanted.total)
        pair.ok("restore", "orders", "--yes")
        assert sums_of(pair.active) == (wanted.rows, wanted.total)

        pair.backup("full")
        pair.ok("verify", "--level", "data")  # what was verified last is kept
        with pair.policy_with(("keep_days = 28", ""), ("keep_fulls_min = 2", "keep_fulls_min = 1")):
            (gone,) = pair.ok("prune", "orders", "--json").json["databases"]
        assert {full["id"], incremental["id"]} <= set(gone["deleted"]), gone
        listed = pair.ok("list", "--json").json["backups"]
        assert full["id"] not in {row["id"] for row in listed if row["state"] == "complete"}
        pair.ok("verify", "--level", "data")


def keys(server: S3Server, bucket: str) -> list[str]:
    return [each["Key"] for each in server.client().list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.mark.slow
def test_what_is_wrong_with_a_bucket_is_said_in_three_lines(tmp_path: Path) -> None:
    server = moto_server()
    with proxied(server.url) as proxy, home(tmp_path / "home") as pair:
        up(pair, S3Server(proxy.url))
        proxy.overwrites = True
        told = pair.fails(4, "backup", "orders", "--type", "full")
        assert "single_writer" in told[2]
        proxy.overwrites = False
        for fault, word in (("skew", "timedatectl"), ("denied", "contrib/s3"), ("keys", "AWS_")):
            proxy.choose = lambda _, fault=fault: fault  # type: ignore[misc]
            told = pair.fails(8, "backup", "orders", "--type", "full")
            assert word in told[2]
        proxy.choose = lambda _: ""
        with pair.policy_with(("s3://bucket", "s3://no-bucket")):
            assert "there is no bucket" in pair.fails(8, "backup", "orders", "--type", "full")[1]
        pair.backup("full")
        assert "s3" not in "".join(pair.leftovers())
