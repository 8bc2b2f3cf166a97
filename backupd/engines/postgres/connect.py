"""Connects to a PostgreSQL server; every failure of the driver becomes three lines. The only address of psycopg."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from backupd.engines.postgres.connect_words import one_line, refusal, server_words, shortened
from backupd.errors import BackupdError, ConfigInvalid, NotHealthy
from backupd.steps import step

if TYPE_CHECKING:
    import psycopg

APPLICATION_NAME = "backupd"
SECONDS_MAX = 5.0
GRACE_SECONDS = 2.0  # between the server's own limit of a statement and the moment when we hang up

Row = dict[str, Any]


class Server:
    """One autocommit connection to one server; rows come as dicts, LSNs as text, times in UTC.

    Statements use ``%s`` for their arguments.  None outlasts ``seconds_max`` (see
    ``patient``): the server cancels it, and where the server itself is stuck, the
    connection is cut here.

    Raises (all methods):
        NotHealthy: the connection is lost, the time is up, or the server said no;
            ``details["sqlstate"]`` holds the server's code where there is one.
        ConfigInvalid: our role may not do that.
    """

    def __init__(self, connection: psycopg.Connection[Row], words: str, seconds_max: float) -> None:
        self._connection = connection
        self._words = words
        self._seconds_max = seconds_max

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def words(self) -> str:
        """What to call this server in a sentence; never with a password."""
        return self._words

    @property
    def version_number(self) -> int:
        """The server's version as it numbers itself: 150018 is 15.18."""
        return int(self._connection.info.server_version)

    @property
    def major(self) -> int:
        """The server's major version."""
        return self.version_number // 10000

    @property
    def alive(self) -> bool:
        """Whether the connection still stands, as far as is known without asking."""
        return not self._connection.closed and not self._connection.broken

    @property
    def backend_pid(self) -> int:
        """The process on the server that serves this connection."""
        return int(self._connection.info.backend_pid)

    def rows(self, sql: str, *arguments: object) -> list[Row]:
        """All rows of the answer."""
        return self._send(sql, arguments)

    def row(self, sql: str, *arguments: object) -> Row:
        """The first row of the answer. Raises NotHealthy also when there is none."""
        found = self._send(sql, arguments)
        if not found:
            raise self._odd(f"it answered no row to: {shortened(sql)}")
        return found[0]

    def value(self, sql: str, *arguments: object) -> Any:
        """The first column of the first row; None when there is no row."""
        found = self._send(sql, arguments)
        return next(iter(found[0].values()), None) if found else None

    def run(self, sql: str, *arguments: object) -> None:
        """Send a statement whose answer does not matter."""
        self._send(sql, arguments)

    @contextlib.contextmanager
    def patient(self, seconds_max: float) -> Iterator[Self]:
        """Inside, a statement may take so long (a CHECKPOINT, a pg_backup_start); 0 is without end."""
        usual = self._seconds_max
        self._limit(seconds_max)
        try:
            yield self
        finally:
            self._seconds_max = usual
            if self.alive:
                with contextlib.suppress(BackupdError):  # a connection that broke is told of by whoever uses it next
                    self._limit(usual)

    def close(self) -> None:
        """Hang up; safe to call twice."""
        self._connection.close()

    def _limit(self, seconds_max: float) -> None:
        self._seconds_max = seconds_max
        self._send(f"SET statement_timeout = {round(seconds_max * 1000)}", ())

    def _send(self, sql: str, arguments: tuple[object, ...]) -> list[Row]:
        import psycopg

        try:
            with self._hang_up_after(self._seconds_max):
                cursor = self._connection.execute(sql.encode(), arguments or None)
                return cursor.fetchall() if cursor.description is not None else []
        except psycopg.Error as error:
            raise self._told(error, sql) from error

    @contextlib.contextmanager
    def _hang_up_after(self, seconds_max: float) -> Iterator[None]:
        if not seconds_max or not self.alive:
            yield
            return
        watch = threading.Timer(seconds_max + GRACE_SECONDS, self._hang_up, [self._connection.fileno()])
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()

    @staticmethod
    def _hang_up(number: int) -> None:
        # The waiting read ends at once; the driver then says that the connection is lost.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as line:
            line.shutdown(socket.SHUT_RDWR)

    def _told(self, error: psycopg.Error, sql: str) -> BackupdError:
        said, code = one_line(error), error.sqlstate or ""
        if not self.alive:
            return NotHealthy(
                f"lost the connection to {self._words}",
                because=said or "the server hung up",
                next_step="look whether the server runs, and at its log",
                sqlstate=code,
            )
        if code == "42501":
            return ConfigInvalid(
                f"our role may not do that on {self._words}",
                because=f"{said} ({shortened(sql)})",
                next_step="grant it, or use a role with pg_monitor, pg_checkpoint and EXECUTE on the backup functions",
                sqlstate=code,
            )
        if code == "57014":
            return NotHealthy(
                f"{self._words} was not done within {self._seconds_max:g} s",
                because=f"{said} ({shortened(sql)})",
                next_step="look at the server's load and at pg_stat_activity",
                sqlstate=code,
            )
        return self._odd(f"{said} ({shortened(sql)})", code)

    def _odd(self, because: str, code: str = "") -> NotHealthy:
        return NotHealthy(
            f"{self._words} did not do what was asked",
            because=because,
            next_step="look at the server's log",
            sqlstate=code,
        )


def connect(conninfo: str, *, dbname: str | None = None, seconds_max: float = SECONDS_MAX, copy: str = "") -> Server:
    """Connect to the server that ``conninfo`` (libpq's ``host=… port=…``, or a URI) names.

    Args:
        conninfo: where and as whom; the database is ``postgres`` where neither it nor ``dbname`` says.
        dbname: another database of the same server.
        seconds_max: how long connecting, and each statement, may take (libpq takes no less than 2 s to connect).
        copy: the copy's name in the policy, for sentences.

    Raises:
        ConfigInvalid: the conninfo is none, the server does not let us in, or psycopg is not installed.
        NotHealthy: nobody answers there, or the server does not take connections now.
    """
    psycopg = _driver()
    settings = _settings(psycopg, conninfo, copy)
    words = server_words(settings, copy)
    asked = {
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
        **settings,
        "dbname": dbname or settings.get("dbname") or "postgres",
        "application_name": APPLICATION_NAME,
        "client_encoding": "UTF8",
        "connect_timeout": max(2, math.ceil(seconds_max)),
    }
    step("pg.connect.open")
    try:
        connection = psycopg.connect(**asked, autocommit=True, row_factory=psycopg.rows.dict_row)
    except psycopg.Error as error:
        raise refusal(error, words, str(settings.get("password") or "")) from None
    server = Server(connection, words, seconds_max)
    # A connection that holds a backup open is idle for long; nobody's shadowed functions are called.
    try:
        server.run(
            f"SET statement_timeout = {round(seconds_max * 1000)}; SET idle_session_timeout = 0; "
            "SET search_path = pg_catalog; SET timezone = 'UTC'"
        )
    except BackupdError:
        server.close()
        raise
    return server


def conninfo_word(conninfo: str, word: str) -> str:
    """One word of a conninfo, ``""`` where it is not said. Raises ConfigInvalid."""
    psycopg = _driver()
    return str(_settings(psycopg, conninfo, "").get(word) or "")


def _driver() -> Any:
    try:
        import psycopg
        import psycopg.rows
    except ImportError as error:
        raise ConfigInvalid(
            "the PostgreSQL engine cannot speak to a server",
            because=f"psycopg is not installed, or does not find libpq: {one_line(error)}",
            next_step="pip install 'backupd[postgres]'",
        ) from None
    return psycopg


def _settings(psycopg: Any, conninfo: str, copy: str) -> dict[str, Any]:
    from psycopg.conninfo import conninfo_to_dict

    try:
        return conninfo_to_dict(conninfo)
    except psycopg.Error:
        # What libpq says here quotes the text, and that may hold a password.
        raise ConfigInvalid(
            f"the conninfo{f' of copy {copy}' if copy else ''} cannot be read",
            because="libpq does not understand it (its text is not shown: it may hold a password)",
            next_step="write it as host=… port=… user=… dbname=…, or as postgresql://user@host:port/dbname",
        ) from None
