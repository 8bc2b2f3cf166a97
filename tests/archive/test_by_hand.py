"""A person with zstd, python3 and archive/FORMAT.md restores by hand: the page's own commands are run here."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import backupd.archive
from backupd.archive.local import LocalStore
from backupd.engines.sqlite.logfile import LogHeader, LogKindCode, LogWriter, delta_frames
from backupd.model.position import Position
from backupd.model.records import LogFile, LogKind
from tests.archive_builders import HISTORY, PAGE_BYTES, open_archive, take_express, take_full, take_logs, write_pages

FORMAT = Path(backupd.archive.__file__).with_name("FORMAT.md")


def write_wlog(
    directory: Path, number: int, kind: LogKindCode, body: bytes, start: int, pages: int
) -> tuple[LogFile, Path]:
    """A log file of the engine's own making."""
    entries = len(body) // (24 + PAGE_BYTES) if kind.has_pages else 1
    writer = LogWriter(directory, number)
    writer.append(body)
    writer.mark(entries, pages, 1)
    closed = writer.finish(
        LogHeader(
            kind=kind,
            page_bytes=PAGE_BYTES,
            history=HISTORY,
            number=number,
            epoch=1,
            start_offset=start,
            end_offset=start + entries,
            pages_after=pages,
            checksum_after=0,
            wal_magic=0x377F0682 if kind is LogKindCode.FRAMES else 0,
            body_bytes=len(body),
            marks_count=1,
        )
    )
    log = LogFile(
        history=HISTORY,
        number=number,
        kind=LogKind(kind.name.lower()),
        start=Position(HISTORY, start),
        end=Position(HISTORY, start + entries),
        size_bytes=closed.size_bytes,
        digest=closed.digest.hex(),
        previous_digest="",
        first_commit_at=datetime(2026, 11, 22, tzinfo=UTC),
    )
    return log, closed.path


def changes(path: Path, statement: str) -> bytes:
    """What a statement writes to the WAL: its frames; they are in the file afterwards."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(statement)
    frames = Path(f"{path}-wal").read_bytes()[32:]
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return frames


def test_a_person_restores_by_hand(tmp_path: Path) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("no zstd program here: install zstd to try the page's commands")
    live = tmp_path / "live.db"
    with sqlite3.connect(live) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, words TEXT)")
        connection.executemany("INSERT INTO t (words) VALUES (?)", [("some words " * 30,)] * 3000)
    connection.close()
    archive = open_archive(LocalStore.prepare(tmp_path / "archive"))
    full = take_full(archive, live, 0)

    body = changes(live, "UPDATE t SET words = 'other words ' || id WHERE id % 7 = 0")
    first = write_wlog(tmp_path, 1, LogKindCode.FRAMES, body, 0, live.stat().st_size // PAGE_BYTES)
    control = write_wlog(tmp_path, 2, LogKindCode.CONTROL, b'{"stamp": {}}', first[0].end.offset, 0)
    before = np.fromfile(live, np.uint8)
    changes(live, "DELETE FROM t WHERE id > 1000")
    changes(live, "VACUUM")
    after = np.fromfile(live, np.uint8).reshape(-1, PAGE_BYTES)
    assert after.size < before.size
    changed = np.flatnonzero((after != before[: after.size].reshape(-1, PAGE_BYTES)).any(axis=1))
    delta_body = delta_frames((changed + 1).tolist(), after[changed].tobytes(), len(after))
    delta = write_wlog(tmp_path, 3, LogKindCode.DELTA, delta_body, control[0].end.offset, len(after))
    take_logs(archive, take_logs(archive, full, [first]), [control, delta])

    commands, program, *_ = re.findall(r"```(?:sh|python)\n(.*?)```", FORMAT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(program.splitlines()) <= 25
    hand = tmp_path / "by-hand"
    hand.mkdir()
    (hand / "apply.py").write_text(program, encoding="utf-8")
    copy, _, fetch, apply, check = commands.splitlines()
    copy = copy.replace("<label of the full>", full.record.id)
    fetches = [fetch.replace("<history>", HISTORY).replace("<number>", f"{number:016x}") for number in (1, 2, 3)]
    script = "\n".join(["set -e", copy, *fetches, apply]).replace("<dbid>", archive.dbid)
    script = script.replace("python3", sys.executable).replace(
        " db/", f" {tmp_path}/archive/db/"
    )  # a label may end with db
    done = subprocess.run(["sh", "-c", script], cwd=hand, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (hand / "app.db").read_bytes() == live.read_bytes()
    assert "integrity_check" in check
    with sqlite3.connect(hand / "app.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1000,)


def test_a_person_restores_an_express_full_by_hand(tmp_path: Path) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("no zstd program here: install zstd to try the page's commands")
    archive = open_archive(LocalStore.prepare(tmp_path / "archive"))
    live = write_pages(tmp_path / "live.db", 300)
    full = take_full(archive, live, 0)
    pages = bytearray(live.read_bytes())
    for page in (0, 7, 8, 299):
        pages[page * PAGE_BYTES : page * PAGE_BYTES + 9] = b"other row"
    live.write_bytes(pages + b"grown by a page and a bit".ljust(2 * PAGE_BYTES, b"."))
    express = take_express(archive, full, tmp_path / "live.db", write_pages(tmp_path / "before.db", 300), 5)
    *_, commands, program, _ = re.findall(r"```(?:sh|python)\n(.*?)```", FORMAT.read_text(encoding="utf-8"), re.DOTALL)
    hand = tmp_path / "by-hand"
    hand.mkdir()
    (hand / "express.py").write_text(program, encoding="utf-8")
    (file,) = express.record.files
    assert file.express is not None
    assert file.express.stored_pages == 6
    values = {
        "label of the express": express.record.id,
        "dbid": archive.dbid,
        "stored_pages": file.express.stored_pages,
    }
    values |= {"page_bytes": file.page_bytes, "page_count": file.page_count}
    for name, value in values.items():
        commands = commands.replace(f"<{name}>", str(value))
    shutil.copy(tmp_path / "before.db", hand / "app.db")
    commands = commands.replace("python3", sys.executable).replace(" db/", f" {tmp_path}/archive/db/")
    commands = commands.replace(f" {tmp_path}/archive/db/ pages", " app.db pages")
    done = subprocess.run(["sh", "-ec", commands], cwd=hand, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (hand / "app.db").read_bytes() == live.read_bytes()


def test_small_objects_are_checked_by_hand(tmp_path: Path) -> None:
    """The page says: ``tail -n +2 OBJECT | sha256sum``."""
    open_archive(LocalStore.prepare(tmp_path / "archive"))
    path = tmp_path / "archive" / "repo.json"
    summed = subprocess.run(
        ["sh", "-c", f"tail -n +2 {path} | sha256sum"], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    assert path.read_text(encoding="utf-8").splitlines()[0] == f"backupd-repository v1 sha256={summed}"
