"""Looks at every database again and again, and writes what it sees on the board; one thread, one look at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from backupd.errors import BackupdError
from backupd.journal.records import JsonValue
from backupd.lines.chain import within
from backupd.model.alarm import Alarm
from backupd.model.pair import CopyState
from backupd.runs.held_log import remember_held_log
from backupd.runs.status import status_of
from backupd.service.board import Board, Seen
from backupd.service.relief import Relief

if TYPE_CHECKING:
    from backupd.bootstrap import House

LOG = logging.getLogger("service")
_SOON_SECONDS = 1.0


class Watch:
    """The one who looks; ``words`` tells what the rota does with a database, ``alarms`` what it has given up there.

    ``begins`` says whether this service only just begins to replicate a database: that its copies stand still
    then is no news, and it is looked at again soon.
    """

    def __init__(
        self,
        house: House,
        board: Board,
        *,
        every_seconds: float,
        words: Callable[[str], dict[str, JsonValue]],
        alarms: Callable[[str], tuple[Alarm, ...]],
        relief: Relief | None = None,
        begins: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._house, self._board, self._every = house, board, every_seconds
        self._words, self._alarms, self._relief = words, alarms, relief
        self._begins = begins
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_round, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to look, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End after the look that goes on; it is not waited for long, for a server that is away may hold it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def look(self, database: str) -> bool:
        """Look at one database now, and write it on the board; whether that was done.

        Never raises for what the world did.
        """
        begins = self._begins(database)  # asked first: what is looked at is older than the answer
        try:
            context = self._house.context(database)
            status = status_of(context)
            copies = status["copies"]
            seen_copies = copies if isinstance(copies, list) else []
            remember_held_log(context, [copy for copy in seen_copies if isinstance(copy, dict)])
            own = self._alarms(database)
        except BackupdError as error:
            LOG.warning("cannot look: %s", error.problem, extra={"facts": {"database": database}})
            return True
        if begins and any(isinstance(copy, dict) and copy["state"] == CopyState.STOPPED for copy in seen_copies):
            return False
        details = status.get("alarm_details")
        sentences = status["alarms"] if isinstance(status["alarms"], list) else []
        told: list[JsonValue] = [*(details if isinstance(details, list) else [])]
        told += [dict(one.to_json()) for one in own]
        said: list[JsonValue] = [*sentences, *(one.sentence for one in own)]
        seen = {**status, "schedule": self._words(database), "alarms": said, "alarm_details": told}
        self._board.put(Seen(database, self._house.clock.now(), seen))
        if self._relief is not None:
            self._relief.look(database, status, self._house.clock.now())
        return True

    def _go_round(self) -> None:
        while not self._stop.is_set():
            began = self._house.clock.monotonic()
            databases = self._house.databases()
            wait = self._every
            for database in databases:
                if self._stop.is_set():
                    return
                with within(database=database):  # also what engines and libraries say meanwhile
                    try:
                        wait = wait if self.look(database) else _SOON_SECONDS
                    except Exception:  # a bug about one database must not blind the service for all
                        LOG.exception("a look ended with a bug")
            for gone in {seen.database for seen in self._board.all()} - set(databases):
                self._board.remove(gone)
            self._stop.wait(max(_SOON_SECONDS, wait - (self._house.clock.monotonic() - began)))
