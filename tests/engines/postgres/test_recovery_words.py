"""What a recovering server's last words are told as."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.engines.postgres.recovery_words import (
    last_commit,
    new_timeline,
    replayed_lsn,
    stopped_where,
    translate,
)
from backupd.engines.postgres.staged_log import used_histories
from backupd.errors import BackupdError, DamageFound, NotFound, NotHealthy

LOG = """\
LOG:  starting point-in-time recovery to 2026-11-22 05:00:00+00
LOG:  redo starts at 0/2000028
LOG:  redo in progress, elapsed time: 10.00 s, current LSN: 0/2A00000
LOG:  recovery stopping before commit of transaction 740, time 2026-11-22 05:00:01.5+00
LOG:  redo done at 0/2B00010 system usage: CPU: user: 0.00 s, system: 0.00 s, elapsed: 0.02 s
LOG:  last completed transaction was at log time 2026-11-22 04:59:59.5+00
LOG:  selected new timeline ID: 12
"""


def test_a_log_tells_how_far_it_came() -> None:
    assert replayed_lsn(LOG) == "0/2B00010"
    assert replayed_lsn(LOG[: LOG.index("LOG:  recovery stopping")]) == "0/2A00000"
    assert replayed_lsn("") == ""
    assert new_timeline(LOG) == 12
    assert new_timeline("") is None
    assert last_commit(LOG) == "2026-11-22 04:59:59.5+00"
    assert stopped_where(LOG).startswith("before commit of transaction 740")
    assert stopped_where("") == ""


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("FATAL:  requested recovery stop point is before consistent recovery point", NotFound, "before the end"),
        ("FATAL:  WAL ends before consistent recovery point", DamageFound, "missing or damaged"),
        ("FATAL:  recovery ended before configured recovery target was reached", DamageFound, "missing or damaged"),
        ("PANIC:  could not locate a valid checkpoint record", DamageFound, "missing or damaged"),
        ("FATAL:  could not locate required checkpoint record", DamageFound, "missing or damaged"),
        ('FATAL:  could not write to file "pg_wal/x": No space left on device', NotHealthy, "could not be recovered"),
        ("FATAL:  requested timeline 3 is not a child of this server's history", DamageFound, "does not go through"),
        ('FATAL:  directory "/srv/ts" does not exist', NotHealthy, "has no place here"),
        ("FATAL:  database files are incompatible with server", NotHealthy, "cannot read the restored files"),
        ("FATAL:  resource manager with ID 130 not registered", NotHealthy, "extension"),
        ("FATAL:  something else", NotHealthy, "did not come up"),
        ("", NotHealthy, "did not come up"),
    ],
)
def test_last_words_become_three_lines(said: str, kind: type[BackupdError], words: str) -> None:
    found = translate(f"LOG:  starting\n{said}\nLOG:  database system is shut down\n", Path("/srv/data"))
    assert type(found) is kind
    assert words in found.problem
    assert len(found.lines()) == 3
    assert all(line.partition(": ")[2] for line in found.lines())


def test_every_timeline_that_was_used_keeps_its_number(tmp_path: Path) -> None:
    (tmp_path / "00000003.history").write_text("1\t0/5000000\tno recovery target specified\n")
    (tmp_path / "000000050000000000000007").write_bytes(b"")
    (tmp_path / "archive_status").mkdir()
    found = used_histories({"00000002.history": "1\t0/3000000\tx\n"}, [tmp_path, tmp_path / "none"])
    assert sorted(found) == [f"0000000{number}.history" for number in (2, 3, 4, 5)]
    assert found["00000002.history"].startswith("1\t0/3000000")
    assert found["00000003.history"].startswith("1\t0/5000000")
    assert found["00000005.history"].startswith("#")
    assert used_histories({}, []) == {}
