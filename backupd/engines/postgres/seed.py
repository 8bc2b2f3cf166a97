"""Makes the passive anew from the active by pg_basebackup, into a stage that is swapped in when it is whole."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

from backupd.engines.postgres.active_target import directory_bytes
from backupd.engines.postgres.cluster import PgCopy
from backupd.engines.postgres.connect import Server
from backupd.engines.postgres.recover_restore import finish_swap, undo
from backupd.engines.postgres.restore_rooms import (
    dropped_rooms,
    linked_tablespaces,
    locate_tablespaces,
    open_room,
    tablespace_room,
    unwritable,
    wal_room,
)
from backupd.engines.postgres.restore_stage import RestoreStage
from backupd.engines.postgres.server_control import plain_environment
from backupd.engines.postgres.stage_journal import Phase, StageJournal
from backupd.engines.postgres.staged_target import RestoreChoices
from backupd.engines.postgres.standby_directory import STANDBY_SIGNAL, StandbyDirectory
from backupd.engines.postgres.swap import Room
from backupd.engines.postgres.volume_table import Tablespace
from backupd.errors import NotHealthy
from backupd.model.records import Progress
from backupd.steps import step

_LOOK_SECONDS = 1.0
_SAID_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the active says before it is copied."""

    major: int
    tablespaces: tuple[Tablespace, ...]
    settings: dict[str, str]
    size_bytes: int


def seed_by_basebackup(active: PgCopy, passive: PgCopy, choices: RestoreChoices, *, run_id: str = "seed") -> None:
    """Copy the active to the passive's data directory and let it stream; configuration and logs there are kept.

    Promise: until the copy is whole the passive's files are as they were, and on
    failure its server runs again; comes back when the passive streams.  May be
    repeated.

    Raises:
        Refused: the passive is no standby of this active, or its places are the active's.
        NotHealthy: the copy or the start did not work; ``because`` is what pg_basebackup or the server says.
    """
    standby = StandbyDirectory(active, passive, choices)
    with standby.ask_active() as server:
        standby.refuse_primary(server)
        facts = _ask(standby, server)
        located = locate_tablespaces(
            facts.tablespaces, linked_tablespaces(standby.main.place), standby.foreign_places()
        )
        standby.make_slot(server, facts.settings)
    journal = standby.live.claim(run_id).but(standby=facts.settings)
    stage = RestoreStage(standby.main, standby.owner)
    try:
        stage.tablespaces = {oid: tablespace_room(place, facts.major) for oid, place in located.items()}
        stage.wal = wal_room(standby.main.place)
        journal = journal.noting(stage.rooms).write(standby.main, standby.owner)
        _empty(stage)
        _copy(standby, stage, facts)
        journal = _swap(standby, stage, journal, facts)
    except BaseException:
        found = standby.live.journal()
        if found is not None and found.phase is Phase.BUILDING:
            undo(standby.live, keep_stage=False)
        raise
    finish_seed(standby)


def finish_seed(standby: StandbyDirectory) -> None:
    """The last part of a seed: the standby runs, streams and holds its log. Raises NotHealthy."""
    finish_swap(standby.live, standby.choices)
    standby.await_streaming(standby.choices.report)
    standby.settle()


def _ask(standby: StandbyDirectory, server: Server) -> _Facts:
    return _Facts(
        server.major,
        standby.tablespaces_of(server),
        standby.standby_settings(),
        int(server.value("SELECT coalesce(sum(pg_database_size(oid)), 0)::bigint FROM pg_database")),
    )


def _empty(stage: RestoreStage) -> None:
    """pg_basebackup wants empty places."""
    try:
        for room in stage.rooms:
            open_room(room, stage.owner)
            step("pg.seed.empty")
            for path in room.stage.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
    except OSError as error:
        raise unwritable(stage.main.place, error) from None


def _words(standby: StandbyDirectory, stage: RestoreStage, facts: _Facts) -> list[str]:
    words = ["-D", str(stage.path), "-X", "stream", "-c", "fast", "-d", standby.public_conninfo(), "-w"]
    words += ["-S", facts.settings["primary_slot_name"]]
    if stage.wal is not None:
        words.append(f"--waldir={stage.wal.stage}")
    for tablespace in facts.tablespaces:
        words.append(f"--tablespace-mapping={_escaped(tablespace.location)}="
                     f"{_escaped(str(stage.tablespaces[tablespace.oid].stage))}")  # fmt: skip
    return words


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace("=", "\\=")


def _copy(standby: StandbyDirectory, stage: RestoreStage, facts: _Facts) -> None:
    """Run pg_basebackup to its end, telling how far it is by what has arrived."""
    control = standby.live.control if (standby.main.place / "PG_VERSION").exists() else standby.programs(facts.major)
    argv = [str(control.bin_directory() / "pg_basebackup"), *_words(standby, stage, facts)]
    step("pg.seed.basebackup")
    with tempfile.TemporaryFile() as said:
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                cwd="/",
                env=plain_environment({"HOME": standby.owner.home, **standby.password_environment()}),
                **standby.owner.run_as(),
            )
        except OSError as error:
            raise _failed(standby, error.strerror or str(error)) from None
        try:
            _watch(standby, stage.rooms, facts.size_bytes, child)
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
        if child.returncode:
            said.seek(0)
            text = " ".join(said.read().decode("utf-8", "replace").split())[-_SAID_CHARACTERS:]
            raise _failed(standby, text or f"it ended with status {child.returncode}")


def _watch(standby: StandbyDirectory, rooms: Sequence[Room], total_bytes: int, child: subprocess.Popen[bytes]) -> None:
    report, looked = standby.choices.report, 0.0
    while child.poll() is None:
        time.sleep(0.05)
        if report is not None and time.monotonic() - looked > _LOOK_SECONDS:
            looked = time.monotonic()
            done = sum(directory_bytes(room.stage) for room in rooms)
            report(Progress(f"copying the active to {standby.passive.name}", done, max(total_bytes, done)))


def _swap(standby: StandbyDirectory, stage: RestoreStage, journal: StageJournal, facts: _Facts) -> StageJournal:
    try:
        (stage.path / "backup_manifest").unlink(missing_ok=True)
        standby.owner.write_file(stage.path / STANDBY_SIGNAL, b"")
        for room in stage.rooms:
            standby.owner.give_tree(room.stage)
    except OSError as error:
        raise unwritable(standby.main.place, error) from None
    more = dropped_rooms(standby.main.place, stage.tablespaces, facts.major, standby.foreign_places())
    journal = standby.live.swap_in(stage, journal, more)
    standby.live.start(journal)
    return journal


def _failed(standby: StandbyDirectory, because: str) -> NotHealthy:
    return NotHealthy(
        f"{standby.passive.name} was not seeded by pg_basebackup",
        because=because,
        next_step="let its user in for replication (pg_hba.conf of the active), or mend what it says, then seed again",
    )
