"""What every ObjectStore must do; a store's test inherits this and makes stores."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from backupd.archive.objects import folders_below
from backupd.digests import sha256_hex
from backupd.errors import ObjectExists, ObjectMissing
from backupd.ports import ObjectStore, StoreFeature

BIG = bytes(range(256)) * 4096 * 9


class StoreContract:
    def make_store(self) -> ObjectStore:
        """A new and empty store."""
        raise NotImplementedError

    @pytest.fixture
    def store(self) -> ObjectStore:
        return self.make_store()

    def test_gives_back_what_was_created(self, store: ObjectStore) -> None:
        stored = store.create("a/b/c-1.x", [BIG[:1000], memoryview(BIG)[1000:]])
        store.sync()
        assert (stored.size_bytes, stored.sha256) == (len(BIG), sha256_hex(BIG))
        pieces = list(store.read("a/b/c-1.x"))
        assert b"".join(pieces) == BIG
        assert max(map(len, pieces)) <= 4 << 20
        assert store.stat("a/b/c-1.x").size_bytes == len(BIG)

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        assert store.create("empty", []).size_bytes == 0
        assert b"".join(store.read("empty")) == b""
        assert [each.name for each in store.list("")] == ["empty"]

    def test_a_name_is_created_once(self, store: ObjectStore) -> None:
        store.create("x", [b"first"])
        for data in (b"second", b"first"):
            with pytest.raises(ObjectExists):
                store.create("x", [data])
        assert b"".join(store.read("x")) == b"first"

    def test_one_of_many_creators_wins(self, store: ObjectStore) -> None:
        won: list[int] = []
        barrier = threading.Barrier(8)

        def race(number: int) -> None:
            barrier.wait()
            try:
                store.create("raced", [str(number).encode()])
            except ObjectExists:
                return
            won.append(number)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert b"".join(store.read("raced")) == str(won[0]).encode()

    def test_pieces_that_fail_leave_nothing(self, store: ObjectStore) -> None:
        def pieces() -> Iterator[bytes]:
            yield BIG
            raise RuntimeError("the source failed")

        with pytest.raises(RuntimeError, match="the source failed"):
            store.create("half", pieces())
        assert not list(store.list(""))
        store.create("half", [b"now whole"])

    def test_ranges(self, store: ObjectStore) -> None:
        store.create("r", [b"0123456789"])
        assert store.read_range("r", 3, 4) == b"3456"
        assert store.read_range("r", 8, 10) == b"89"
        assert store.read_range("r", 12, 10) == b""

    def test_what_is_missing_is_said(self, store: ObjectStore) -> None:
        store.create("a/there", [b""])
        for name in ("gone", "a/gone", "a/there/below"):
            with pytest.raises(ObjectMissing):
                b"".join(store.read(name))
            with pytest.raises(ObjectMissing):
                store.read_range(name, 0, 1)
            with pytest.raises(ObjectMissing):
                store.stat(name)

    def test_lists_by_prefix_in_order(self, store: ObjectStore) -> None:
        for name in ("b/2", "b/10", "a", "b-x", "bc/1"):
            store.create(name, [name.encode()])
        assert [each.name for each in store.list("")] == ["a", "b-x", "b/10", "b/2", "bc/1"]
        assert [each.name for each in store.list("b")] == ["b-x", "b/10", "b/2", "bc/1"]
        assert [(each.name, each.size_bytes) for each in store.list("b/")] == [("b/10", 4), ("b/2", 3)]
        assert [each.name for each in store.list("b/1")] == ["b/10"]
        assert not list(store.list("zzz/y"))

    def test_names_the_folders_of_a_place(self, store: ObjectStore) -> None:
        for name in ("a/b/1", "a/b/c/2", "a/d/3", "a/x", "e/f"):
            store.create(name, [b""])
        assert folders_below(store, "a/") == ("a/b/", "a/d/")
        # moto goes on naming a folder in which only delete markers are, as of a probe; nobody relies on its being gone.
        assert tuple(each for each in folders_below(store, "") if each != "probe/") == ("a/", "e/")
        assert folders_below(store, "zzz/") == ()
        store.delete("a/d/3")
        left = folders_below(store, "a/")
        assert left == ("a/b/",) or (StoreFeature.OBJECT_LOCK in store.features and left == ("a/b/", "a/d/"))

    def test_deletes_and_may_delete_again(self, store: ObjectStore) -> None:
        store.create("d/e/f", [b"1"])
        store.create("d/g", [b"2"])
        store.delete("d/e/f")
        store.delete("d/e/f")
        store.delete("never/was")
        store.sync()
        assert [each.name for each in store.list("")] == ["d/g"]
        store.create("d/e/f", [b"again"])

    def test_the_cache_can_be_forgotten(self, store: ObjectStore) -> None:
        store.create("c", [BIG])
        store.forget_cached("c")
        assert b"".join(store.read("c")) == BIG
        with pytest.raises(ObjectMissing):
            store.forget_cached("not-there")

    @pytest.mark.parametrize("name", ["", "/a", "a//b", "../x", "a/../b", "a b", "a/", "."])
    def test_odd_names_are_bugs(self, store: ObjectStore, name: str) -> None:
        with pytest.raises(ValueError, match=r".*"):
            store.create(name, [b""])
