"""Hosts that share one archive, interleaved by a seed: each may sleep at any request, longer than its lease, or die.

Each host runs in a thread of its own, and exactly one thread runs at a time: a host
hands over before every request to the store.  A host that sleeps does its pending
request the moment it wakes, before it can notice anything.  Time is counted, not
spent; wall clocks are days apart; no host knows whether another one lives.
"""

from __future__ import annotations

import random
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupd.archive import begin, lease, proof, tombs
from backupd.archive.database import DatabaseArchive
from backupd.archive.holder import Holder
from backupd.archive.lease import DatabaseLease
from backupd.archive.record import AbortRecord, decode_record
from backupd.archive.repository import Repository
from backupd.errors import BackupdError
from backupd.model.records import BackupRecord
from backupd.ports import StoredObject
from tests.fakes_store import MemoryStore

PERIOD_SECONDS = 60.0
SEEDED_REQUESTS_MAX = 20_000


class Died(BaseException):
    """The host lost its power."""


class AtOnce:
    """Stands for a pool of threads: the work is done by whoever asks for it, so that a seed says all."""

    def __init__(self, *_: object, **__: object) -> None:
        self.shutdown = lambda **_: None

    def submit(self, work: Callable[..., object], *arguments: object) -> object:
        done = type("Done", (), {})()
        try:
            answer = work(*arguments)
            done.result = lambda: answer
        except BackupdError as error:
            problem = error

            def fail() -> None:
                raise problem

            done.result = fail
        return done


def closed() -> threading.Lock:
    """A gate that one thread waits at and another opens."""
    gate = threading.Lock()
    gate.acquire()
    return gate


@dataclass
class Host:
    """One host: its clocks, its archive, and where its thread stands."""

    world: World
    name: str
    skew: timedelta
    lives: int = 0
    rounds: int = 0
    awake_at: float = 0.0
    ended: bool = False
    dead: bool = False
    renewing: bool = False
    renewed_at: float = 0.0
    held: DatabaseLease | None = None
    error: BaseException | None = None
    go: threading.Lock = field(default_factory=closed)

    # --- ports.Clock ---

    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC) + self.skew + timedelta(seconds=self.world.seconds)

    def monotonic(self) -> float:
        return self.world.seconds + 1000.0 * len(self.name)

    def sleep(self, seconds: float) -> None:
        self.awake_at = self.world.seconds + seconds
        self.hand_over()

    # --- the world ---

    def holder(self) -> Holder:
        return Holder(f"{self.name}{self.lives}", f"boot of {self.name}", 7, 1)

    def request(self) -> None:
        """Before each request: what a heartbeat would do, then let others go on."""
        due = self.world.seconds - self.renewed_at > PERIOD_SECONDS / 3
        if due and self.held is not None and not self.renewing and not self.dead:
            self.renewing, self.renewed_at = True, self.world.seconds
            try:
                self.held.renew()
            finally:
                self.renewing = False
        self.hand_over()

    def hand_over(self) -> None:
        if self.dead:
            raise Died
        self.world.back.release()
        self.go.acquire()
        if self.dead:
            raise Died

    def archive(self) -> DatabaseArchive:
        return Repository.open(Gate(self), self).database("orders", "sqlite", None)

    def lease(self, run: str) -> DatabaseLease:
        return DatabaseLease(
            self.archive(),
            run=run,
            seen=self.world.directory / self.name,
            period_seconds=PERIOD_SECONDS,
            heartbeat=False,
        )


class Gate:
    """The shared store as one host sees it."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._store = host.world.store
        self.features = self._store.features

    def describe(self) -> str:
        return "memory"

    def create(
        self, name: str, pieces: Iterable[bytes | memoryview], *, retain_until: datetime | None = None
    ) -> StoredObject:
        data = b"".join(pieces)
        self._host.request()
        stored = self._store.create(name, [data])
        self._host.world.created(name, data)
        return stored

    def read(self, name: str) -> Iterator[bytes]:
        self._host.request()
        return self._store.read(name)

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        self._host.request()
        return self._store.read_range(name, offset, length)

    def stat(self, name: str) -> StoredObject:
        self._host.request()
        return self._store.stat(name)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        self._host.request()
        return self._store.list(prefix)

    def delete(self, name: str) -> None:
        self._host.request()
        self._store.delete(name)
        self._host.world.deleted(name)

    def forget_cached(self, name: str) -> None:
        self._store.forget_cached(name)

    def sync(self) -> None:
        pass


class World:
    """The archive, time, and the promises, which are looked at after every change."""

    def __init__(self, seed: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dice = random.Random(seed)
        self.directory = directory
        self.store = MemoryStore()
        self.seconds = 0.0
        self.back = closed()
        self.hosts: list[Host] = []
        self.running: Host | None = None
        self.committed: dict[str, BackupRecord] = {}
        self.ever: set[str] = set()
        self.broken: list[str] = []
        self.counts: Counter[str] = Counter()
        self.calm = False
        monkeypatch.setattr(secrets, "token_hex", lambda count: self.dice.randbytes(count).hex())
        monkeypatch.setattr(proof, "ThreadPoolExecutor", AtOnce)
        monkeypatch.setattr(lease, "_LOOK_SECONDS", 11.0)
        monkeypatch.setattr(lease, "this_boot", lambda: f"boot of {self._running().name}")
        for room in (begin, lease, tombs):
            monkeypatch.setattr(room, "this_process", lambda: self._running().holder())
        clock = self.host("maker", timedelta())
        Repository.create(self.store, clock).database("orders", "sqlite", "pair-1")

    def host(self, name: str, skew: timedelta) -> Host:
        return Host(self, name, skew)

    def _running(self) -> Host:
        if self.running is None:
            raise RuntimeError("no host runs")
        return self.running

    def run(self, works: dict[str, Callable[[Host], None]]) -> None:
        """Let the hosts do their works, interleaved, until all have ended."""
        self.hosts = []
        for name, work in works.items():
            host = self.host(name, timedelta(days=self.dice.uniform(-4, 4)))
            self.hosts.append(host)
            threading.Thread(target=self._live, args=(host, work), daemon=True).start()
        for _ in range(SEEDED_REQUESTS_MAX):
            alive = [host for host in self.hosts if not host.ended]
            if not alive:
                break
            self.seconds += self.dice.uniform(0.0, 0.5)
            awake = [host for host in alive if host.awake_at <= self.seconds]
            if not awake:
                self.seconds = min(host.awake_at for host in alive)
                continue
            host = self.dice.choice(awake)
            if not self.calm and self.dice.random() < 0.012:
                host.awake_at = self.seconds + self.dice.uniform(0.5, 8) * PERIOD_SECONDS
                self.counts["slept"] += 1
                continue
            host.dead = not self.calm and self.dice.random() < 0.0015
            self.running = host
            host.go.release()
            self.back.acquire()
        else:
            self.broken.append("the hosts never ended")
        for host in self.hosts:
            if host.error is not None:
                raise host.error

    def _live(self, host: Host, work: Callable[[Host], None]) -> None:
        host.go.acquire()
        while True:
            try:
                work(host)
            except Died:
                self.counts["died"] += 1
                host.dead, host.held = False, None
                host.lives += 1  # under another name, so that nobody can know that it was this one
                continue
            except BaseException as error:  # noqa: BLE001 - told to whoever runs the world
                host.error = error
            break
        host.ended = True
        self.back.release()

    # --- the promises ---

    def created(self, name: str, data: bytes) -> None:
        if "/tomb/" in name and "/tomb/logs-" not in name:
            self.counts["deletion"] += 1
        if name.count("/") == 4 and "/log/" in name and "." in name.rpartition("/")[2]:
            self.counts["log under another name"] += 1
        if "/lease/" in name:
            self.counts["taken over"] += b"not renewed in time" in data
        if "/backup/" not in name:
            return
        record = decode_record(name, data, None)
        if isinstance(record, AbortRecord):
            self.counts["fenced"] += "lost its lease" in record.reason
            return
        self.counts["committed"] += 1
        if record.id in self.ever:
            self.broken.append(f"{record.id} was committed twice")
        self.ever.add(record.id)
        if record.parent and record.parent not in self.committed:
            self.broken.append(f"{record.id} was committed on {record.parent}, which is gone")
        self.committed[record.id] = record
        self.broken += [
            f"{record.id} names {one}, which is gone" for one in named(record) if one not in self.store.objects
        ]

    def deleted(self, name: str) -> None:
        label = name.rpartition("/")[2]
        if "/backup/" in name and self.committed.pop(label, None) is not None:
            children = [one.id for one in self.committed.values() if one.parent == label]
            if children:
                self.broken.append(f"{label} was deleted, and {children} build on it")
        if name.split("/")[2] in {"data", "map", "log"}:
            users = [one.id for one in self.committed.values() if name in named(one)]
            if users:
                self.broken.append(f"{name} was deleted, and {users} need it")


def named(record: BackupRecord) -> set[str]:
    """Every object that a record names."""
    names = {one.name for one in record.logs}
    for file in record.files:
        names |= {segment.name for segment in file.segments} | {file.map.name}
    return names
