"""A standby's data directory that is made anew: whom it followed, how it starts again, and when it streams."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path

from backupd.engines.postgres.cluster import PgCopy
from backupd.engines.postgres.connect import Server, connect, conninfo_word
from backupd.engines.postgres.control_file import ClusterState
from backupd.engines.postgres.live_directory import LiveDirectory
from backupd.engines.postgres.marks import clear_suspect
from backupd.engines.postgres.must_seed import clear_must_seed
from backupd.engines.postgres.postmaster import work_done
from backupd.engines.postgres.restore_rooms import linked_tablespaces
from backupd.engines.postgres.server_control import PgControl
from backupd.engines.postgres.slots import ensure_slots, reset_lost_slot
from backupd.engines.postgres.staged_target import RestoreChoices
from backupd.engines.postgres.volume_table import Tablespace
from backupd.errors import BackupdError, NotHealthy, Refused
from backupd.model.records import Progress
from backupd.ports import ReportProgress

STANDBY_SIGNAL = "standby.signal"
_CONNINFO, _SLOT = "primary_conninfo", "primary_slot_name"
_POLL_SECONDS = 0.2
_IDLE_WORK = 1 << 20  # ticks and bytes: a server that only tries to connect does less
_SLOT_LETTERS = re.compile(r"[^a-z0-9_]")
# What a conninfo may say that a command line may show.
_WORDS = (
    "service", "host", "hostaddr", "port", "user", "passfile", "sslmode", "sslrootcert", "sslcert", "sslkey",
    "sslcrl", "channel_binding", "gssencmode", "krbsrvname", "options", "keepalives_idle", "keepalives_interval",
    "keepalives_count", "tcp_user_timeout", "target_session_attrs",
)  # fmt: skip


class StandbyDirectory:
    """The passive copy's directory.

    Args:
        active: the copy that it will stream from.
        passive: the copy that is made anew.
        choices: what holds for every restore.
    """

    def __init__(self, active: PgCopy, passive: PgCopy, choices: RestoreChoices) -> None:
        self.active, self.passive, self.choices = active, passive, choices
        self.live = LiveDirectory.of(passive.data_directory, choices.options)
        self.main, self.owner = self.live.main, self.live.owner
        self.seconds_max = choices.options.server_seconds_max

    def ask_active(self) -> Server:
        """A connection to the active. Raises ConfigInvalid, NotHealthy."""
        return connect(self.active.conninfo, copy=self.active.name, seconds_max=30.0)

    def refuse_primary(self, server: Server) -> None:
        """Raises Refused when the one to be made anew is no standby of this active, or the active is none."""
        if server.value("SELECT pg_is_in_recovery()"):
            raise self._refused(f"{self.active.name} is no primary", "promote one of the two")
        found = self.live.facts()
        expected = str(server.value("SELECT system_identifier::text FROM pg_control_system()"))
        if found is not None and str(found.system_identifier) != expected:
            raise self._refused(
                f"the cluster {found.system_identifier} is there, and the active is {expected}",
                "correct the data_directory in the policy, or move that cluster away",
            )
        production = found is not None and found.state is ClusterState.IN_PRODUCTION
        if production and self.live.control.is_running():
            raise self._refused(
                "its server runs as a primary: it is the active itself, or the two copies have parted",
                "correct the data_directory in the policy, or stop the one whose changes may go, then seed again",
            )

    def _refused(self, because: str, next_step: str) -> Refused:
        return Refused(f"cannot seed {self.passive.name} in {self.main.place}", because=because, next_step=next_step)

    def foreign_places(self) -> list[Path]:
        """The active's places, when it is on this host: never written to."""
        return [*linked_tablespaces(self.active.data_directory).values(), self.active.data_directory]

    def programs(self, major: int) -> PgControl:
        """Programs of a version, for a directory that is not there yet."""
        return PgControl(
            self.main.place, bin_directory=self.choices.options.bin_directory, major=major, owner=self.owner
        )

    # --- whom it follows --------------------------------------------------------

    def standby_settings(self) -> dict[str, str]:
        """primary_conninfo and primary_slot_name as they were, else by the policy; call it before anything moves."""
        conninfo = self._setting(_CONNINFO) or f"{self.public_conninfo()} application_name={self.passive.name}"
        slot = self._setting(_SLOT) or f"node_{_SLOT_LETTERS.sub('_', self.passive.name.lower())}"[:63]
        return {_CONNINFO: conninfo, _SLOT: slot}

    def _setting(self, name: str) -> str:
        if not (self.main.place / "PG_VERSION").exists():
            return ""
        try:
            done = self.live.control.run(
                "postgres", "-D", str(self.main.place), *self.live.control.start_options(), "-C", name
            )
        except BackupdError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    def public_conninfo(self) -> str:
        """The policy's conninfo of the active without its password."""
        said = {word: conninfo_word(self.active.conninfo, word) for word in _WORDS}
        return " ".join(f"{word}={_quoted(value)}" for word, value in said.items() if value)

    def password_environment(self) -> dict[str, str]:
        """The policy's password, if it names one, for a program's environment."""
        password = conninfo_word(self.active.conninfo, "password")
        return {"PGPASSWORD": password} if password else {}

    def make_slot(self, server: Server, settings: Mapping[str, str]) -> None:
        """On the active: the slot that the standby streams from, and backupd's. Raises NotHealthy, ConfigInvalid."""
        for name in (settings[_SLOT], self.choices.options.slot):
            reset_lost_slot(server, name)
            ensure_slots(server, server, name)

    def tablespaces_of(self, server: Server) -> tuple[Tablespace, ...]:
        """The active's."""
        rows = server.rows(
            "SELECT oid::bigint AS oid, pg_tablespace_location(oid) AS location FROM pg_tablespace "
            "WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1"
        )
        return tuple(Tablespace(int(row["oid"]), str(row["location"])) for row in rows)

    # --- back to work -----------------------------------------------------------

    def await_streaming(self, report: ReportProgress | None = None) -> None:
        """Until it streams from the active, however long its replay takes as long as it works.

        Raises:
            NotHealthy: it ended, or nothing moved for ``server_seconds_max``; ``because`` is what is known.
        """
        moved, seen, problem = time.monotonic(), -1, ""
        while time.monotonic() - moved < self.seconds_max:
            problem = self._not_streaming()
            if not problem:
                return
            running = self.live.control.postmaster()
            done = work_done(running.pid) if running else seen
            if done > seen + _IDLE_WORK:
                moved, seen = time.monotonic(), done
            if report is not None:
                report(Progress(f"{self.passive.name} does not stream yet: {problem}", 0, 0))
            time.sleep(_POLL_SECONDS)
        raise NotHealthy(
            f"{self.passive.name} does not stream from {self.active.name}",
            because=problem,
            next_step="look at its log and its primary_conninfo; where log is missing, seed it by pg_basebackup",
        )

    def _not_streaming(self) -> str:
        try:
            with connect(self.passive.conninfo, copy=self.passive.name) as server:
                status = server.value("SELECT status FROM pg_stat_wal_receiver")
                if status == "streaming" and server.value("SELECT pg_is_in_recovery()"):
                    return ""
                return f"its receiver is {status or 'not running'}"
        except BackupdError as error:
            return error.because or error.problem

    def settle(self) -> None:
        """The standby is a copy again: its slot is there, and no note stands against it. May be repeated."""
        name = self.choices.options.slot
        with self.ask_active() as active, connect(self.passive.conninfo, copy=self.passive.name) as passive:
            reset_lost_slot(passive, name)
            ensure_slots(active, passive, name)
        clear_must_seed(self.choices.state_dir)
        clear_suspect(self.choices.state_dir, self.passive.name)


def _quoted(value: str) -> str:
    if value and not re.search(r"[\s'\\]", value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
