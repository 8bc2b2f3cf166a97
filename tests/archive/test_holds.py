"""A hold keeps its backup from every deletion, also from one that began before it, and on every node."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd import steps
from backupd.archive.database import DatabaseArchive
from backupd.archive.holds import the_hold
from backupd.archive.local import LocalStore
from backupd.archive.verify import Level, verify_database
from backupd.errors import BackupdError, NotFound, Refused
from tests.archive_builders import open_archive, take_full, write_pages
from tests.fakes_store import MemoryStore


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    return write_pages(tmp_path / "app.db", 20)


def ids(archive: DatabaseArchive) -> list[str]:
    return [backup.record.id for backup in archive.list().backups]


def test_a_held_backup_is_not_deleted_until_it_is_released(
    store: MemoryStore, archive: DatabaseArchive, pages: Path
) -> None:
    full = take_full(archive, pages, 0)
    hold = archive.hold(full.record.id, reason="the auditor", by="ann on db1")
    elsewhere = open_archive(store)
    assert elsewhere.holds() == (hold,)
    assert verify_database(elsewhere, Level.DATA).sound
    with pytest.raises(Refused, match="cannot be deleted") as refused:
        elsewhere.delete_backup(full.record.id, reason="expired")
    assert "ann on db1 holds it since 2026-11-22: the auditor" in refused.value.because
    assert list(store.list(f"db/{archive.dbid}/tomb/")) == []
    elsewhere.release(hold)
    elsewhere.release(hold)
    archive.delete_backup(full.record.id, reason="expired")
    assert set(store.objects) == {"repo.json", f"db/{archive.dbid}/identity.json"}


def test_two_holds_are_two_reasons(archive: DatabaseArchive, pages: Path) -> None:
    full = take_full(archive, pages, 0)
    first, second = (archive.hold(full.record.id, reason=why, by="ann") for why in ("one", "two"))
    with pytest.raises(Refused, match="has 2 holds") as refused:
        the_hold(archive, full.record.id)
    assert first.id in refused.value.because
    archive.release(the_hold(archive, full.record.id, first.id))
    assert the_hold(archive, full.record.id) == second
    with pytest.raises(NotFound):
        the_hold(archive, full.record.id, first.id)
    with pytest.raises(Refused):
        archive.delete_backup(full.record.id, reason="expired")


def test_only_what_is_there_can_be_held(store: MemoryStore, archive: DatabaseArchive, pages: Path) -> None:
    take_full(archive, pages, 0)
    with pytest.raises(NotFound):
        archive.hold("20261122T010000Z-F-00000000", reason="why", by="ann")
    assert archive.holds() == ()


def test_a_backup_that_is_being_deleted_cannot_be_held(
    store: MemoryStore, archive: DatabaseArchive, pages: Path
) -> None:
    """The deletion has looked for holds already, so the one that comes later gives way and says so."""
    full = take_full(archive, pages, 0)
    steps.arm("fail", 1, "archive.delete")
    try:
        with pytest.raises(BackupdError):
            archive.delete_backup(full.record.id, reason="expired")
    finally:
        steps.disarm()
    with pytest.raises(Refused, match="cannot be held"):
        archive.hold(full.record.id, reason="why", by="ann")
    assert archive.holds() == ()


def test_a_hold_that_comes_while_a_deletion_begins_wins(
    store: MemoryStore, archive: DatabaseArchive, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written after the tomb and before the deletion looks: both are seen, the backup stays."""
    full = take_full(archive, pages, 0)
    name = f"db/{archive.dbid}/hold/{full.record.id}-0123abcd.json"
    content = {"backup_id": full.record.id, "id": "0123abcd", "reason": "r", "by": "ann"}
    sync = store.sync

    def hold_now() -> None:
        if any("/tomb/" in each for each in store.objects) and name not in store.objects:
            archive.sealed.create("hold", name, {**content, "at": "2026-11-22T01:00:00+00:00"})
        sync()

    monkeypatch.setattr(store, "sync", hold_now)
    with pytest.raises(Refused, match="cannot be deleted"):
        archive.delete_backup(full.record.id, reason="expired")
    assert ids(archive) == [full.record.id]
    assert verify_database(archive, Level.DATA).sound


def test_a_damaged_hold_still_holds_and_verify_names_it(
    store: MemoryStore, archive: DatabaseArchive, pages: Path
) -> None:
    full = take_full(archive, pages, 0)
    hold = archive.hold(full.record.id, reason="the auditor", by="ann")
    name = f"db/{archive.dbid}/hold/{full.record.id}-{hold.id}.json"
    store.objects[name] = store.objects[name][:-1]
    assert "damaged" in archive.holds()[0].sentence
    with pytest.raises(Refused):
        archive.delete_backup(full.record.id, reason="expired")
    assert name in [finding.object_name for finding in verify_database(archive, Level.MANIFEST).findings]


def test_a_hold_of_a_lost_record_is_reported(store: MemoryStore, archive: DatabaseArchive, pages: Path) -> None:
    full = take_full(archive, pages, 0)
    archive.hold(full.record.id, reason="the auditor", by="ann")
    del store.objects[f"db/{archive.dbid}/backup/{full.record.id}"]
    assert {finding.backup_id for finding in archive.orphans()} == {full.record.id}


def test_placing_and_releasing_that_fail_at_any_step(tmp_path: Path, pages: Path) -> None:
    """Either the hold is there and holds, or it is not there; the archive is sound and the next try works."""
    for verb in ("hold", "release"):
        for number in range(1, 40):
            root = tmp_path / f"{verb}-{number}"
            archive = open_archive(LocalStore.prepare(root))
            full = take_full(archive, pages, 0)
            hold = archive.hold(full.record.id, reason="first", by="ann") if verb == "release" else None
            steps.arm("fail", number)
            try:
                if hold:
                    archive.release(hold)
                else:
                    archive.hold(full.record.id, reason="first", by="ann")
            except BackupdError:
                pass
            finally:
                counted = steps.disarm()
            archive.sweep(holding_lease=True)
            assert verify_database(archive, Level.DATA).findings == []
            for each in archive.holds():
                with pytest.raises(Refused):
                    archive.delete_backup(full.record.id, reason="test")
                archive.release(each)
            archive.delete_backup(full.record.id, reason="test")
            if counted < number:
                assert number > 2
                break
        else:
            pytest.fail("more steps than this test allows for")
