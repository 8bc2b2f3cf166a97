"""A PostgreSQL installation that is broken on purpose: faults in real processes, and the promises looked at after."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backupd.archive import names
from backupd.archive.verify import Level, verify_database
from backupd.bootstrap import House, open_house
from backupd.decide.chains import archived_end
from backupd.decide.lineage import lineage_of
from backupd.demo.postgres_binaries import Person
from backupd.engines.postgres.pauses import marker_path
from backupd.engines.postgres.wal_names import parse_segment_name
from backupd.errors import BackupdError
from backupd.runs.context import RunContext
from tests.faults.pg_processes import Running, forked
from tests.loop_mounts import loop_mount
from tests.pg_pairs import server_of
from tests.stories.home import Answer
from tests.stories.pg_home import PgHome, pg_home

# The promise is 5 s; a machine that runs other tests beside this one may need a moment to let anybody run.
REPLAYS_AGAIN_SECONDS = 15.0


@dataclass
class BrokenHome:
    """A home whose runs are broken, and whose rows are counted.

    ``rows`` is what the table holds on the active; ``replays_seconds`` is the longest time that replay took to
    run again after a fault.
    """

    home: PgHome
    provider: str
    rows: int = 0
    replays_seconds: float = 0.0
    kept: list[str] = field(default_factory=list)

    # --- the database -----------------------------------------------------------

    def prepare(self, **tables: str) -> None:
        """The table, and a policy with the provider; ``tables`` are more lines of it."""
        # How long a stopped run holds its freeze is the test's affair.
        lines = {"backup": f'provider = "{self.provider}"', "freeze": 'seconds_max = "300s"'}
        self.home.write_policy(**{**lines, **tables})
        self.home.pair.active.psql("CREATE TABLE marks(id int PRIMARY KEY, body text)")
        self.write()

    def write(self, rows: int = 10) -> None:
        """Commit some rows on the active."""
        first = self.rows + 1
        self.rows += rows
        self.home.pair.active.psql(
            f"INSERT INTO marks SELECT i, repeat(md5(i::text), 20) FROM generate_series({first}, {self.rows}) AS i"
        )

    # --- processes ----------------------------------------------------------------

    def begin(self, *words: str, **environment: str) -> Running:
        """Start one ``backupctl`` and go on."""
        out = Path(tempfile.mkdtemp(prefix="out-", dir=self.home.root))
        with (out / "out").open("wb") as stdout, (out / "err").open("wb") as stderr:
            process = subprocess.Popen(
                self.home.command(*words),
                env=self.home.environment(**environment),
                stdout=stdout,
                stderr=stderr,
                stdin=subprocess.DEVNULL,
                cwd=self.home.root,
            )
        return Running(words, process, out)

    @contextlib.contextmanager
    def stopped(self, fault: str, *words: str, role: str = "run") -> Iterator[Running]:
        """A ``backupctl`` that stands still at a step, as ``stop:N@PREFIX`` says."""
        running = self.begin(*words, BACKUPD_FAULT=f"stop:{fault}", BACKUPD_FAULT_ROLE=role)
        try:
            running.wait_stopped()
            yield running
        finally:
            running.kill()

    def forked(self, *words: str, fault: tuple[str, int] | None = None) -> Answer:
        """The same command line in a child of this process, which has all modules loaded already: for many of them."""
        return forked(self.home, words, fault)

    def forked_ok(self, *words: str) -> Answer:
        """One that must end well."""
        answer = self.forked(*words)
        assert answer.status == 0, answer.told()
        return answer

    # --- the promises ---------------------------------------------------------------

    def judge(self, when: str, *, restore: bool = True, kind: str = "incremental") -> dict[str, Any]:
        """Replay runs, nothing is half listed, the next run is clean, and nothing is left after it."""
        self.replays(when)
        self.archive_is_whole(when)
        self.log_is_safe(when)
        return self.goes_on(when, restore=restore, kind=kind)

    def goes_on(self, when: str, *, restore: bool = True, kind: str = "incremental") -> dict[str, Any]:
        """The next run is clean, nothing is left after it, and what it made can be restored; answers with its JSON."""
        self.write()
        answer = self.forked("backup", "orders", "--type", kind, "--json")
        assert answer.status == 0, f"{when}: {answer.told()}"
        assert answer.json["state"] == "complete", f"{when}: {answer.told()}"
        self.nothing_is_left(when)
        self.archive_is_whole(when)
        self.log_is_safe(when)
        if restore:
            self.restores(when)
        found: dict[str, Any] = answer.json
        return found

    def replays(self, when: str) -> None:
        """The passive replays, at once or a little later."""
        began = time.monotonic()
        while True:
            with server_of(self.home.pair, "passive") as server:
                state = server.value(
                    "SELECT CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() ELSE 'no standby' END"
                )
            if state == "not paused":
                break
            assert time.monotonic() - began < REPLAYS_AGAIN_SECONDS, f"{when}: replay is still {state}"
            time.sleep(0.05)
        self.replays_seconds = max(self.replays_seconds, time.monotonic() - began)

    def archive_is_whole(self, when: str) -> None:
        """Whatever is listed can be read whole, and has all its parents."""
        with self.context() as context, contextlib.suppress(BackupdError):
            archive = context.archive()
            listing = archive.list()
            assert not listing.findings, f"{when}: {listing.findings}"
            ids = [backup.record.id for backup in listing.backups]
            found = verify_database(archive, Level.DATA, backup_ids=ids).findings
            assert not found, f"{when}: {found}"

    def log_is_safe(self, when: str) -> None:
        """No copy lacks log between what the archive holds and what it has reached."""
        with self.context() as context:
            backups: Any = ()
            with contextlib.suppress(BackupdError):
                backups = context.archive().list().backups
            status = context.writer.pair()
            if status.history is None or not backups:
                return
            end = archived_end(lineage_of(status.history, backups, status.ancestry).backups, status.history)
            assert end is not None, when
            for server in self.home.pair.servers:
                first = oldest_segment(server.data)
                size = 16 << 20
                assert first * size <= end.offset, f"{when}: {server.name} begins at {first}, the archive ends at {end}"

    def nothing_is_left(self, when: str) -> None:
        """No run in progress, hold, marker, snapshot, intent, orphan, stage, or connection."""
        with self.context() as context:
            assert context.journal.in_progress("orders") == [], when
            assert context.journal.holds("orders") == [], when
            assert not marker_path(context.state_dir).exists(), when
            passive = self.home.pair.passive.data
            for provider in context.providers:
                assert list(provider.leftovers(passive)) == [], f"{when}: {provider.name}"
            archive = context.archive()
            assert list(archive.store.list(names.intents_prefix(archive.dbid))) == [], when
            assert list(archive.store.list(names.tombs_prefix(archive.dbid))) == [], when
            assert archive.orphans() == (), when
        for server in self.home.pair.servers:
            assert self.connections(server.name) == 0, f"{when}: {server.name} still has connections of backupd"

    def connections(self, copy: str) -> int:
        """How many connections of backupd's a server has, beside the one that asks; a guardian has one."""
        with server_of(self.home.pair, copy) as server:
            asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backupd' AND pid <> %s"
            until = time.monotonic() + 10
            while (found := int(server.value(asked, server.backend_pid))) and time.monotonic() < until:
                time.sleep(0.1)
            return found

    def restores(self, when: str, *, rows: int | None = None, **wish: str) -> None:
        """A restore to a directory starts and has the rows."""
        target = self.home.root / "restored" / "data"
        shutil.rmtree(target.parent, ignore_errors=True)
        self.home.pair.a.person.own(target.parent)
        words = [word for name, value in wish.items() for word in (f"--{name}", value)]
        answer = self.forked("restore", "orders", *words, "--target", str(target), "--yes")
        assert answer.status == 0, f"{when}: {answer.told()}"
        self.home.check_restored(target)
        with self.home.opened(target) as restored:
            told = restored.psql("SELECT count(*), coalesce(max(id), 0) FROM marks")
            wanted = self.rows if rows is None else rows
            assert told == f"{wanted}|{wanted}", f"{when}: {told}\n{answer.told()}"
        shutil.rmtree(target.parent)

    @contextlib.contextmanager
    def context(self) -> Iterator[RunContext]:
        """The same eyes that a run has, closed again."""
        house: House = open_house(self.home.config)
        try:
            yield house.context("orders")
        finally:
            house.close()


def oldest_segment(data: Path, size: int = 16 << 20) -> int:
    """The number of the oldest log segment that a copy still has."""
    parsed = [parse_segment_name(name, size) for name in os.listdir(data / "pg_wal")]
    return min(each[1] for each in parsed if each is not None)


@contextlib.contextmanager
def broken_home(kind: str = "paused", **how: Any) -> Iterator[BrokenHome]:
    """A home to break; ``kind`` is live, paused, btrfs or reflink, which is also the filesystem of the standby."""
    tables = how.pop("tables", {})
    with standby_place(kind) as place, pg_home(home=place, scale=1, **how) as home:
        made = BrokenHome(home, kind)
        made.prepare(**tables)
        yield made
        sys.stderr.write(f"\n{kind}: replay ran again after at most {made.replays_seconds:.2f} s\n")


@contextlib.contextmanager
def standby_place(kind: str) -> Iterator[Path | None]:
    """A home for the standby on a filesystem of this kind; None where any will do."""
    if kind not in {"btrfs", "reflink"}:
        yield None
        return
    made = Path(tempfile.mkdtemp(prefix="pgl-", dir="/tmp"))  # below pytest's own directory only root may go
    made.chmod(0o755)
    try:
        with loop_mount(made, {"reflink": "xfs"}.get(kind, kind), size_bytes=1 << 30) as mounted:
            mounted.chmod(0o755)
            home = mounted / "home"
            home.mkdir()
            if kind == "btrfs":
                subprocess.run(["btrfs", "subvolume", "create", str(home / "data")], check=True, capture_output=True)
                Person().own(home / "data")
            Person().own(home)
            yield home
    finally:
        shutil.rmtree(made)
