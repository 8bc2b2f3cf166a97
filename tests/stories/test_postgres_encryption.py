"""A PostgreSQL pair with an encrypted archive: nothing of it lies there in clear, and the key brings it all back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from backupd.archive.age import new_identity
from tests.stories.pg_home import PgHome, pg_home

pytestmark = pytest.mark.real
SECRET, RECIPIENT = new_identity()


@pytest.fixture(scope="module")
def home() -> Iterator[PgHome]:
    with pg_home(16) as made:
        made.write_policy(encryption=f'mode = "age"\nrecipients = ["{RECIPIENT}"]')
        made.pair.active.psql("CREATE TABLE secrets_of_customers AS SELECT 'a phrase nobody may read' AS words")
        made.backup("full")
        made.pair.active.psql("INSERT INTO secrets_of_customers VALUES ('and another for the log')")
        made.backup("incremental")
        yield made


def test_only_the_key_brings_it_back(home: PgHome) -> None:
    held = b"".join(path.read_bytes() for path in home.archive.rglob("*") if path.is_file())
    for word in (b"secrets_of_customers", b"a phrase nobody", b"another for the log", b"pgbench_accounts", b"base/"):
        assert word not in held
    target = home.root / "look" / "data"
    target.parent.mkdir(mode=0o700)
    shutil.chown(target.parent, home.pair.a.data.owner())
    refused = home.refused(3, "restore", "orders", "--target", str(target), "--yes")
    assert "--key FILE" in refused.err
    key = home.root / "key.txt"
    key.write_text(SECRET + "\n")
    home.ok("restore", "orders", "--target", str(target), "--yes", "--key", str(key))
    with home.opened(target) as server:
        assert server.psql("SELECT count(*) FROM secrets_of_customers") == "2"
    home.check_restored(target)


@pytest.mark.slow
def test_a_passive_is_seeded_from_the_active_where_the_archive_cannot_be_read(home: PgHome) -> None:
    done = home.ok("copy", "seed", "orders")
    assert "could not be seeded from the archive" in done.out + done.err
    assert "encrypted" in done.out + done.err
    home.pair.wait_streaming()
    home.backup("full")
