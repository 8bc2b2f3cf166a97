"""What the outside hears of the service: alarms, pings to a dead man's switch, and the page with its numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, NotHealthy, Refused
from backupd.model.alarm import Alarm, Severity
from backupd.model.records import BackupType
from backupd.model.rules import Task
from backupd.service.alarms import AlarmTeller, seen_on
from backupd.service.board import Board
from backupd.service.ping import Pings

if TYPE_CHECKING:
    from backupd.bootstrap import House
    from backupd.service.web.server import PageServer

LOG = logging.getLogger("service")
# How often it is asked whether something critical stands, which silences the heartbeat.
_CRITICAL_SECONDS = 5.0

Want = Callable[[str, Task], None]


class Outside:
    """The voices of one service. Trouble with one of them is an alarm, and never stops the others nor a backup.

    Args:
        house: its config and policies.
        board: how each database was when last looked at.
        own: the service's own alarms.
        want: begins a run that a person asks for; None: the service begins none.
        pings: those of the service, which others tell of runs.
    """

    def __init__(
        self, house: House, board: Board, own: Callable[[], Sequence[Alarm]], want: Want | None, pings: Pings
    ) -> None:
        self._house, self._board, self._own, self._want, self._pings = house, board, own, want, pings
        config = house.config
        self._teller = AlarmTeller(config.alarms, config.state_dir, house.clock, config.node)
        self._page: PageServer | None = None
        self._no_page: BackupdError | None = None
        self._next_look = 0.0
        self._critical = False

    def start(self) -> None:
        """Begin to speak, and to listen where the config says so."""
        self._pings.start()
        self._teller.start(self._see)
        if self._house.config.options.listen:
            try:
                self._open_page()
            except BackupdError as error:
                self._no_page = error
                LOG.error("there is no page", extra={"facts": {"problem": error.problem, "because": error.because}})

    def tick(self, now: float) -> None:
        """Send what is due; ``now`` in monotonic seconds."""
        if now >= self._next_look:
            self._next_look = now + _CRITICAL_SECONDS
            alarms, _ = self._see()
            self._critical = any(alarm.severity is Severity.CRITICAL for alarm in alarms)
        self._pings.tick(critical=self._critical)

    def stop(self) -> None:
        """Fall silent."""
        if self._page is not None:
            self._page.stop()
        self._teller.stop()
        self._pings.stop()

    def alarms(self) -> tuple[Alarm, ...]:
        """What is wrong with the voices themselves."""
        found = [*self._pings.alarms()]
        if (error := self._no_page) is not None:
            sentence = f"there is no page and there are no metrics: {error.problem} ({error.because})"
            found.append(Alarm("", "no-page", sentence, next_step=error.next_step))
        return tuple(found)

    def _see(self) -> tuple[list[Alarm], list[str]]:
        return seen_on(self._board, self._house.databases(), [*self._own(), *self.alarms()])

    def _open_page(self) -> None:
        from backupd.service.desk import HouseDesk

        config = self._house.config
        try:
            from backupd.service.web.server import PageServer
        except ImportError as missing:
            # Who installed without the extra wants none: that is no alarm.
            LOG.info("there is no page: pip install 'backupd[service]'", extra={"facts": {"missing": missing.name}})
            return
        _ = self._house.journal  # opened by one thread, before several ask for it
        page = PageServer(HouseDesk(self._house, self._board, self._run_now), config.options, config.node)
        try:
            page.start()
        except OSError as error:
            raise NotHealthy(
                f"{config.options.listen} cannot be listened on",
                because=error.strerror or str(error),
                next_step="give another address as listen under [service]",
            ) from error
        self._page = page
        LOG.info("the page is open", extra={"facts": {"address": page.address}})

    def _run_now(self, database: str, backup_type: BackupType) -> str:
        if self._want is None or backup_type is BackupType.COPY:
            why = "a copy stands beside the schedule" if self._want else "schedule = false under [service]"
            raise Refused(
                f"a {backup_type} backup of {database} was not begun",
                because=why,
                next_step=f"backupctl backup {database} --type {backup_type}",
            )
        self._want(database, Task(backup_type.value))
        return f"a {backup_type} backup of {database} begins"
