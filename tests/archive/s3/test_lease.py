"""The lease of a database in a bucket: many hands reach for it at once, and one gets it."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from backupd.archive import lease as lease_module
from backupd.archive import names
from backupd.archive.holder import this_process
from backupd.archive.lease import DatabaseLease
from backupd.archive.verify import Level, verify_database
from backupd.errors import Busy
from tests.archive_builders import open_archive
from tests.s3_servers import S3Server


def test_of_many_who_reach_for_it_one_gets_it(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = replace(this_process(), host="elsewhere")
    monkeypatch.setattr(lease_module, "this_process", lambda: elsewhere)
    archive = open_archive(server.store())
    for turn in range(3):
        leases = [DatabaseLease(archive, run=f"run {number}", heartbeat=False) for number in range(6)]
        got: list[DatabaseLease] = []

        def reach(lease: DatabaseLease, got: list[DatabaseLease] = got) -> None:
            try:
                lease.acquire()
                got.append(lease)
            except Busy:
                pass

        threads = [threading.Thread(target=reach, args=(lease,)) for lease in leases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = got
        winner.check()
        winner.renew()
        winner.release()
        left = list(archive.store.list(names.leases_prefix(archive.dbid)))
        assert [names.term_number_in(each.name) for each in left] == [3 * (turn + 1)]
    assert verify_database(archive, Level.DATA).sound
