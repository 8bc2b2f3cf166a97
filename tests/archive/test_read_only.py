"""A store that only reads gives what is there, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.archive.local import LocalStore
from backupd.archive.read_only import ReadOnlyStore
from backupd.errors import Refused


def test_reading_is_the_store_s_and_writing_is_refused(tmp_path: Path) -> None:
    store = LocalStore.prepare(tmp_path / "archive")
    store.create("db/orders-1/backup/x", [b"words"])
    only = ReadOnlyStore(store)
    assert b"".join(only.read("db/orders-1/backup/x")) == b"words"
    assert only.read_range("db/orders-1/backup/x", 1, 3) == b"ord"
    assert only.stat("db/orders-1/backup/x").size_bytes == 5
    assert [each.name for each in only.list("db/")] == ["db/orders-1/backup/x"]
    assert list(only.list_folders("db/")) == ["db/orders-1/"]
    for write in (lambda: only.create("y", [b"1"]), lambda: only.delete("db/orders-1/backup/x")):
        with pytest.raises(Refused) as caught:
            write()
        assert caught.value.exit_status == 4
    only.sync()
    only.forget_cached("db/orders-1/backup/x")
    assert [each.name for each in store.list("")] == ["db/orders-1/backup/x"]
