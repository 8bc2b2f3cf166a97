"""Everything that the service does, side by side: replication, the schedule, the looks; from start to stop."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from backupd import __version__
from backupd.errors import BackupdError, Busy, ConfigInvalid, NotFound
from backupd.model.alarm import Alarm, Severity
from backupd.policy.follow import follower_of
from backupd.service.board import Board
from backupd.service.folder import fingerprint
from backupd.service.following import Following
from backupd.service.keeper import Keeper
from backupd.service.notify import Notifier
from backupd.service.outside import Outside
from backupd.service.ping import Pings
from backupd.service.relief import Relief
from backupd.service.run_lines import RunLines

if TYPE_CHECKING:
    from backupd.bootstrap import House
    from backupd.policy.service_file import ServiceOptions
    from backupd.service.rota import Rota

LOG = logging.getLogger("service")
TICK_SECONDS = 0.25
# How often it is looked whether the policy files have changed.
_FOLDER_SECONDS = 5.0


def serve(
    config: Path,
    stop: threading.Event,
    reload: threading.Event | None = None,
    log_as: Callable[[ServiceOptions], None] = lambda _: None,
) -> None:
    """Open the house and serve until ``stop`` is set; ``reload`` asks to read the policies anew.

    ``log_as`` is told what the config says of the log, before anything else.

    Raises:
        ConfigInvalid: the config or a policy cannot be used; nothing was started.
        NotFound: there is no policy.
        Busy: another service runs on the same state directory.
    """
    from backupd.bootstrap import open_house
    from backupd.journal.lease import RunLease

    house = open_house(config)
    log_as(house.config.options)
    try:
        lease = RunLease(house.config.state_dir / "service.lock", run="the service backupd", now=_now)
        try:
            lease.acquire()
        except Busy as busy:
            raise Busy(
                f"another backupd serves {house.config.state_dir}",
                because=busy.because,
                next_step="use that one, or stop it first" + (f": kill {pid}" if (pid := busy.details["pid"]) else ""),
            ) from None
        try:
            Service(house, reload or threading.Event()).run(stop)
        finally:
            lease.release()
    finally:
        house.close()


def _now() -> datetime:
    return datetime.now(UTC)


class Service:
    """One node's service: recovers first, then serves, and ends gently."""

    def __init__(self, house: House, reload: threading.Event) -> None:
        self._house, self._reload = house, reload
        self.board = Board()
        self._following = self._follow()
        self._keepers = [Keeper(replicator) for replicator in house.replicators()]
        self._notifier = Notifier()
        pings = Pings(house.config.alarms.ping, house.clock.monotonic)
        self._rota = self._make_rota(pings)
        self._outside = Outside(house, self.board, self.alarms, self._rota.want if self._rota else None, pings)
        self._folder = self._fingerprint()
        self._next_look = 0.0
        self._invalid: ConfigInvalid | None = None

    def _follow(self) -> Following | None:
        """Whoever fetches the policies of a repository; what nobody has fetched yet is waited for.

        Raises:
            BackupdError: nothing was ever fetched here, and it cannot be fetched now.
        """
        follower = follower_of(self._house.config)
        if follower is None:
            return None
        if follower.in_force() is None:
            first = follower.fetch()
            if first.problem is not None:
                raise first.problem
            self._house.reload()
        return Following(follower, self._reload.set)

    def _make_rota(self, pings: Pings) -> Rota | None:
        options = self._house.config.options
        if not options.schedule:
            return None
        from backupd.decide.turns import Caps
        from backupd.service.rota import Rota

        return Rota(self._house, Caps(options.runs_max, options.runs_per_archive_max), pings)

    def run(self, stop: threading.Event) -> None:
        """Serve until ``stop`` is set. Raises NotFound: there is no policy."""
        from backupd.service.watch import Watch

        databases, rota = self._house.databases(), self._rota
        if not databases:
            raise NotFound(
                "there is nothing to do",
                because=f"{self._house.config.policies_dir} holds no policy",
                next_step="write one with: backupctl init DIR --database NAME --copy a=PATH --copy b=PATH --active a",
            )
        facts = {"version": __version__, "pid": os.getpid(), "databases": ",".join(databases)}
        LOG.info("backupd starts", extra={"facts": facts})
        for name in sorted(set(databases) - {keeper.database for keeper in self._keepers}):
            recover_first(self._house, name)
        options = self._house.config.options
        watch = Watch(
            self._house,
            self.board,
            every_seconds=options.look_seconds,
            words=rota.words if rota else lambda _: {},
            alarms=rota.alarms_of if rota else lambda _: (),
            relief=Relief(rota.want) if rota else None,
            begins=lambda name: any(keeper.beginning for keeper in self._keepers if keeper.database == name),
        )
        try:
            if rota is not None:
                rota.start()
            watch.start()
            self._outside.start()
            if self._following is not None:
                self._following.start()
            self._notifier.ready(f"serving {len(databases)} databases")
            keep_going([self], stop, time.monotonic)
        finally:
            LOG.info("backupd stops", extra={"facts": {"pid": os.getpid()}})
            self._notifier.stopping()
            if self._following is not None:
                self._following.stop()
            watch.stop()
            self._outside.stop()
            if rota is not None:
                rota.stop(options.stop_seconds_max)
            stop_all(self._keepers)

    def alarms(self) -> tuple[Alarm, ...]:
        """What is wrong with the service itself, and runs that it has given up."""
        own = []
        if (invalid := self._invalid) is not None:
            own.append(_policy_alarm(invalid))
        followed = self._following.alarms() if self._following else ()
        return (*own, *followed, *(self._rota.alarms() if self._rota else ()))

    def tick(self, now: float) -> None:
        """Look after everything once; ``now`` in monotonic seconds."""
        for keeper in self._keepers:
            keeper.tick(now)
        if self._rota is not None:
            self._rota.tick()
        self._see_to_policies(now)
        self._outside.tick(now)
        self._notifier.alive(now)

    # --- policies ---

    def _see_to_policies(self, now: float) -> None:
        if now >= self._next_look:
            self._next_look = now + _FOLDER_SECONDS
            folder = self._fingerprint()
            if folder != self._folder:
                self._folder = folder
                self._reload.set()
        if self._reload.is_set():
            self._reload.clear()
            self._notifier.reloading()
            self._read_policies()
            self._notifier.ready(f"serving {len(self._house.databases())} databases")

    def _fingerprint(self) -> tuple[tuple[str, int, int, int], ...]:
        return fingerprint(self._house.config.policies_dir, self._house.policy_files())

    def _read_policies(self) -> None:
        """Go by the policies as they are in the folder now; when one is wrong, by those that we have."""
        try:
            changed = self._house.reload()
        except ConfigInvalid as error:
            self._invalid = error
            facts = {"problem": error.problem, "because": error.because}
            LOG.error("the policies stay as they were", extra={"facts": facts})
            return
        self._invalid = None
        LOG.info("policies read", extra={"facts": {"changed": ",".join(changed) or "none"}})
        known = set(self._house.databases())
        self._renew_keepers(set(changed))
        for name in changed:
            if self._rota is not None:
                if name in known:
                    self._rota.look_at([name])
                else:
                    self._rota.forget(name)

    def _renew_keepers(self, changed: set[str]) -> None:
        """Replication whose policy is another one begins anew; what is as it was is not touched."""
        ended = [keeper for keeper in self._keepers if keeper.database in changed]
        stop_all(ended)
        kept = [keeper for keeper in self._keepers if keeper.database not in changed]
        new = [Keeper(one) for one in self._house.replicators() if one.database in changed]
        self._keepers = [*kept, *new]


def _policy_alarm(invalid: ConfigInvalid) -> Alarm:
    return Alarm(
        "",
        "policy-invalid",
        f"the policies in use are not those in the folder: {invalid.problem} ({invalid.because})",
        severity=Severity.CRITICAL,
        next_step="backupctl policy check",
    )


def recover_first(house: House, database: str) -> None:
    """End what a dead run has left on servers that replicate by themselves: a pause of replay above all."""
    from backupd.runs.recover import run_recover

    try:
        context = house.context(database)
        context.journal.hear = RunLines().hear
        for sentence in run_recover(context):
            LOG.info("recovered: %s", sentence, extra={"facts": {"database": database}})
    except BackupdError as error:
        LOG.warning("not recovered: %s (%s)", error.problem, error.because, extra={"facts": {"database": database}})


class Ticking(Protocol):
    """Whatever wants to be looked after."""

    def tick(self, now: float, /) -> None:
        """Once; ``now`` in monotonic seconds."""
        ...


def keep_going(ticking: Sequence[Ticking], stop: threading.Event, clock: Callable[[], float]) -> None:
    """Tick each a few times a second until ``stop`` is set."""
    while not stop.is_set():
        for each in ticking:
            each.tick(clock())
        stop.wait(TICK_SECONDS)


def stop_all(keepers: Sequence[Keeper]) -> None:
    """Stop all at the same time: each may need seconds to ship its last log."""
    threads = [threading.Thread(target=keeper.stop, name=f"stop {keeper.database}") for keeper in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
