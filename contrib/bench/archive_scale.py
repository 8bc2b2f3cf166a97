"""How list and prune --dry-run do in an archive of many databases, and how many requests a store is asked.

    python contrib/bench/archive_scale.py [--databases 10000] [--directory DIR] [--policies N]

Writes an archive of that many databases, each with 60 daily backups (a full every 7
days, the others incrementals), by the code that writes records; data objects are
hard links to one small file, for neither verb opens them.  One database of a hundred is
written, the others are hard links of it: the verbs open only the one that they are
about, which is a written one.  Then it runs both verbs
as a person does, a new process each, and once more inside this one with a store
that counts: a listing counts a request for each 1,000 names, as S3 answers.  At the
end it takes and deletes backups in one of the databases and counts these requests too.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from backupd import bootstrap  # noqa: E402
from backupd.archive import names  # noqa: E402
from backupd.archive.envelope import seal  # noqa: E402
from backupd.archive.local import LocalStore  # noqa: E402
from backupd.archive.record import encode_record  # noqa: E402
from backupd.archive.repository import Repository  # noqa: E402
from backupd.archive.verdict import Verdict  # noqa: E402
from backupd.digests import sha256_hex  # noqa: E402
from backupd.model.position import Position  # noqa: E402
from backupd.model.records import (  # noqa: E402
    BackupRecord,
    BackupType,
    LogFile,
    LogKind,
    StoredFile,
    StoredLog,
    StoredMap,
    StoredSegment,
)
from backupd.ports import StoredObject  # noqa: E402

BACKUPS, CHAIN, PAGE_NAMES = 60, 7, 1000
HISTORY = "5f3a9c21d0e47b86"
NO_SUM = "0" * 64

POLICY = """database = "{name}"
engine = "sqlite"
archive = "file://{archive}"

[copies.a]
path = "{home}/{name}/a.db"
[copies.b]
path = "{home}/{name}/b.db"

[retention]
keep_days = 28
keep_fulls_min = 2
keep_monthly_fulls = 12
"""


class CountingStore:
    """A store that counts what S3 would be asked; a listing asks once for each 1,000 names."""

    def __init__(self, inner: LocalStore) -> None:
        self.inner, self.features, self.asked = inner, inner.features, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def create(self, name: str, pieces: Iterable[bytes | memoryview]) -> StoredObject:
        """A PUT."""
        self.asked["PUT"] += 1
        return self.inner.create(name, pieces)

    def read(self, name: str) -> Iterator[bytes]:
        """A GET."""
        self.asked["GET"] += 1
        return self.inner.read(name)

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """A GET."""
        self.asked["GET"] += 1
        return self.inner.read_range(name, offset, length)

    def stat(self, name: str) -> StoredObject:
        """A HEAD."""
        self.asked["HEAD"] += 1
        return self.inner.stat(name)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """A LIST for each 1,000 names that are looked at."""
        for number, each in enumerate(self.inner.list(prefix)):
            self.asked["LIST"] += number % PAGE_NAMES == 0
            yield each
        if "number" not in locals():
            self.asked["LIST"] += 1

    def list_folders(self, prefix: str) -> Iterator[str]:
        """A LIST for each 1,000 folders."""
        found = list(self.inner.list_folders(prefix))
        self.asked["LIST"] += max(1, -(-len(found) // PAGE_NAMES))
        return iter(found)

    def delete(self, name: str) -> None:
        """A DELETE."""
        self.asked["DELETE"] += 1
        self.inner.delete(name)

    def told(self) -> str:
        """What was asked since the last time, and forgets it."""
        words = ", ".join(f"{self.asked[verb]} {verb}" for verb in ("LIST", "GET", "HEAD", "PUT", "DELETE"))
        self.asked.clear()
        return words


# --- the archive ---------------------------------------------------------------


def make_archive(root: Path, count: int) -> None:
    """Write it; a line every 1,000 databases."""
    repository = Repository.create(LocalStore.prepare(root), bootstrap.SystemClock())
    newest = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=6)
    written = root
    for number in range(count):
        if number % 100 == 0 or number in {count // 2, count - 1}:
            written = make_database(root, repository.uuid, database_name(number), newest)
        else:
            place = root / "db" / names.database_id(database_name(number), "sqlite")
            shutil.copytree(written, place, copy_function=os.link)
        if (number + 1) % 1000 == 0:
            print(f"  {number + 1} databases", flush=True)


def database_name(number: int) -> str:
    """The name of the n-th."""
    return f"db-{number:06d}"


def make_database(root: Path, uuid: str, name: str, newest: datetime) -> Path:
    """Sixty backups, each full verified once; answers with the directory."""
    dbid = names.database_id(name, "sqlite")
    base = root / "db" / dbid
    for part in ("backup", "map", f"log/{HISTORY}", "verify"):
        (base / part).mkdir(parents=True)
    identity = {"database": name, "engine": "sqlite", "identity": "pair-1", "created_at": newest.isoformat()}
    small(root, "identity", names.identity_name(dbid), uuid, identity)
    blob = base / "map" / "blob"
    blob.write_bytes(b"\0" * 100)
    parent: BackupRecord | None = None
    parent_sha256: str | None = None
    for number in range(BACKUPS):
        at = newest - timedelta(days=BACKUPS - 1 - number)
        backup_type = BackupType.FULL if number % CHAIN == 0 else BackupType.INCREMENTAL
        label = names.new_label(at, backup_type, secrets.token_hex(4))
        log = stored_log(dbid, number + 1, at)
        os.link(blob, root / log.name)
        record = record_of(dbid, name, label, backup_type, at, number + 1, log, parent, parent_sha256)
        for file in record.files:
            (root / file.segments[0].name).parent.mkdir(parents=True)
            os.link(blob, root / file.segments[0].name)
            os.link(blob, root / file.map.name)
            verdict = Verdict(label, "verify", "data", at + timedelta(hours=1), True)
            verdict_name = names.verdict_name(dbid, label, verdict.at, "00000000")
            (root / verdict_name).parent.mkdir()
            small(root, "verdict", verdict_name, uuid, verdict.to_json())
        record_name = names.record_name(dbid, label)
        data = encode_record(record, object_name=record_name, repository=uuid)
        (root / record_name).write_bytes(data)
        parent, parent_sha256 = record, sha256_hex(data)
    blob.unlink()
    return base


def small(root: Path, kind: str, name: str, uuid: str, content: dict[str, Any]) -> None:
    """A small object, as the archive seals it."""
    (root / name).write_bytes(seal(kind, name, uuid, content))


def stored_log(dbid: str, number: int, at: datetime) -> StoredLog:
    """The log of one day in one file."""
    start, end = Position(HISTORY, number - 1), Position(HISTORY, number)
    log = LogFile(HISTORY, number, LogKind.FRAMES, start, end, 100, f"{number:064x}", f"{number - 1:064x}", at, at)
    return StoredLog(log, names.log_name(dbid, HISTORY, number), 100, NO_SUM)


def record_of(
    dbid: str,
    name: str,
    label: str,
    backup_type: BackupType,
    at: datetime,
    end: int,
    log: StoredLog,
    parent: BackupRecord | None,
    parent_sha256: str | None,
) -> BackupRecord:
    """A record with one segment, or one log file."""
    full = backup_type is BackupType.FULL
    segment = StoredSegment(names.segment_name(dbid, label, 0), 0, 1, 4096, 100, NO_SUM)
    page_map = StoredMap(names.map_name(dbid, label), 1, 100, NO_SUM)
    return BackupRecord(
        id=label,
        database=name,
        engine="sqlite",
        type=backup_type,
        source_copy="b",
        source_role="passive",
        source_host="bench",
        started_at=at,
        finished_at=at,
        covers_until=at,
        log_start=Position(HISTORY, end if full or parent is None else parent.log_end.offset),
        log_end=Position(HISTORY, end),
        parent=None if full or parent is None else parent.id,
        parent_sha256=None if full else parent_sha256,
        nonce=secrets.token_hex(16),
        files=(StoredFile("app.db", 4096, 4096, 1, NO_SUM, (segment,), page_map),) if full else (),
        logs=(log,),
        stored_bytes=300,
    )


# --- measuring -------------------------------------------------------------------


def measure(home: Path, archive: Path, count: int, policies: int) -> None:
    """Time both verbs on the database in the middle, and count what they ask."""
    config = home / "backupd.toml"
    config.write_text('[service]\nstate_dir = "state"\npolicies_dir = "policies"\n')
    (home / "policies").mkdir()
    middle = count // 2
    for number in {middle, *range(policies)}:
        text = POLICY.format(name=database_name(number), archive=archive, home=home)
        (home / "policies" / f"{database_name(number)}.toml").write_text(text)
    name = database_name(middle)
    for words in (["list", name, "--json"], ["prune", name, "--dry-run", "--json"]):
        seconds = [one_run(config, words) for _ in range(5)]
        verb, median = " ".join(words[:1] + words[2:-1]), statistics.median(seconds)
        print(f"  {verb:16}  {median:6.2f} s, {asked_by(config, words)}", flush=True)
    store = CountingStore(LocalStore(archive))
    repository = Repository.open(store, bootstrap.SystemClock())
    store.told()
    began = time.perf_counter()
    found = len(repository.database_ids())
    print(f"  which databases   {time.perf_counter() - began:6.2f} s, {store.told()} ({found} found)")


def one_run(config: Path, words: list[str]) -> float:
    """Seconds of one command, from its start to its end."""
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "backupd.cli.main", words[0], "--config", str(config), *words[1:]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - began


def asked_by(config: Path, words: list[str]) -> str:
    """The same in this process, with a store that counts."""
    from backupd.runs.listing import list_backups
    from backupd.runs.prune import plan_prune

    store: list[CountingStore] = []
    open_store = bootstrap._store

    def counting(url: str, *, make: bool) -> Any:
        store.append(CountingStore(open_store(url, make=make)))  # type: ignore[arg-type]
        return store[-1]

    bootstrap._store = counting
    try:
        house = bootstrap.open_house(config)
        context = house.context(words[1])
        if words[0] == "list":
            list_backups(context)
        else:
            plan_prune(context)
        house.close()
    finally:
        bootstrap._store = open_store
    total = CountingStore(LocalStore(Path("/")))
    for one in store:
        total.asked += one.asked
    return total.told()


def count_changes(archive_root: Path, count: int) -> None:
    """Requests of an incremental, a full, and of deletions, in the last database; read-back is counted apart."""
    store = CountingStore(LocalStore(archive_root))
    repository = Repository.open(store, bootstrap.SystemClock())
    archive = repository.database(database_name(count - 1), "sqlite", "pair-1")
    print(f"  opening           {store.told()}")
    last = archive.list().backups[-1]
    print(f"  one listing       {store.told()}")
    archive.sweep(holding_lease=True)
    print(f"  a sweep           {store.told()} (each run begins with one)")
    log = stored_log(archive.dbid, BACKUPS + 1, datetime.now(UTC)).log
    with tempfile.NamedTemporaryFile(dir=archive_root.parent) as file:
        file.write(b"x" * 100)
        file.flush()
        backup = archive.begin(BackupType.INCREMENTAL, parent=last)
        stored = backup.put_log(log, Path(file.name))
        record = record_of(
            archive.dbid,
            archive.name,
            backup.label,
            BackupType.INCREMENTAL,
            datetime.now(UTC),
            BACKUPS + 1,
            stored,
            last.record,
            last.sha256,
        )
        backup.commit(replace(record, nonce=backup.nonce))
    print(f"  an incremental    {store.told()} (one log file; one GET is its read-back)")
    listing = archive.list()
    chain = [one.record.id for one in listing.backups[:CHAIN]]
    store.told()
    for label in reversed(chain):
        archive.delete_backup(label, reason="bench", since=listing)
    print(f"  deleting a chain  {store.told()} ({CHAIN} of {BACKUPS + 1} backups)")
    second = archive.list().backups[0]
    store.told()
    archive.let_log_go({second.record.id: [one.name for one in second.record.logs]}, reason="bench")
    archive.prune_logs(reason="bench")
    print(f"  letting log go    {store.told()}")


def main() -> None:
    """Make, measure, remove."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--databases", type=int, default=10_000)
    parser.add_argument("--policies", type=int, default=1, help="how many of them this node has a policy for")
    parser.add_argument("--directory", type=Path, help="where to make the archive; removed at the end")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="archive-scale-", dir=options.directory))
    try:
        archive = place / "archive"
        print(f"making {options.databases} databases of {BACKUPS} backups", flush=True)
        began = time.perf_counter()
        make_archive(archive, options.databases)
        print(f"  made in {time.perf_counter() - began:.0f} s")
        measure(place, archive, options.databases, min(options.policies, options.databases))
        count_changes(archive, options.databases)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
