"""Pings a dead man's switch: a service elsewhere that alarms when it hears nothing; pings never hold anybody up."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.errors import BackupdError
from backupd.model.alarm import Alarm
from backupd.model.masking import mask, parts_of
from backupd.policy.secret import SecretReference, read_secret
from backupd.service.send import Sent

if TYPE_CHECKING:
    from backupd.policy.alarms import PingOptions

LOG = logging.getLogger("service")
for _noisy in ("httpx", "httpcore"):
    logging.getLogger(_noisy).setLevel(logging.WARNING)  # they log the URL, and that is the secret; also in a command

TRIES_MAX = 3
_TRY_AGAIN_SECONDS = 2.0
_WAITING_MAX = 1000
_BODY_LENGTH_MAX = 10_000
_START, _FAIL = "/start", "/fail"


@dataclass(frozen=True, slots=True)
class _Ping:
    target: SecretReference
    suffix: str
    body: str


def ping(target: SecretReference, suffix: str, body: str, timeout_seconds: float) -> Sent:
    """One ping, tried once: GET, or POST when there is a body. Never raises for what the world or the config did."""
    name = str(target)
    try:
        url = read_secret(target)
    except BackupdError as error:
        return Sent(name, taken=False, because=f"{error.problem}: {error.because}")
    try:
        import httpx
    except ImportError:
        return Sent(name, taken=False, because="the package httpx is not installed: pip install 'backupd[service]'")
    secrets = parts_of(url)
    try:
        address = httpx.URL(url)
        address = address.copy_with(path=address.path.rstrip("/") + suffix) if suffix else address
        with httpx.Client(timeout=timeout_seconds, follow_redirects=False) as client:
            content = mask(body, secrets)[:_BODY_LENGTH_MAX].encode()
            # Streamed and not read: a server that talks for ever would hold us.
            with client.stream("POST" if content else "GET", address, content=content or None) as answer:
                status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        return Sent(name, taken=False, because=mask(f"{type(error).__name__}: {error}", secrets))
    if not 200 <= status < 300:
        return Sent(name, taken=False, because=f"the server answered {status}")
    return Sent(name, taken=True)


class Pings:
    """The pings of a service: a heartbeat, and each backup's begin and end; sent by a thread of its own."""

    def __init__(self, options: PingOptions, clock: Callable[[], float]) -> None:
        """``clock`` tells monotonic seconds."""
        self._options, self._clock = options, clock
        self._waiting: queue.Queue[_Ping | None] = queue.Queue(_WAITING_MAX)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="pings", daemon=True)
        self._next_beat = 0.0
        self._unheard: dict[str, str] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """End; what has not been sent is dropped."""
        self._stop.set()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            pass  # the thread looks whether to stop after each ping
        if self._thread.is_alive():
            self._thread.join(5.0)

    def tick(self, *, critical: bool) -> None:
        """Send the heartbeat when it is due; not while a critical alarm stands, so that silence tells it."""
        now = self._clock()
        if self._options.url is None or critical or now < self._next_beat:
            return
        self._next_beat = now + self._options.every_seconds
        self._put(_Ping(self._options.url, "", ""))

    def begun(self, database: str) -> None:
        """A backup of the database begins."""
        self._about(database, _START, "")

    def succeeded(self, database: str) -> None:
        """A backup of the database is complete."""
        self._about(database, "", "")

    def failed(self, database: str, lines: Sequence[str]) -> None:
        """A backup of the database failed; ``lines`` are the three of its error."""
        self._about(database, _FAIL, "\n".join(lines))

    def alarms(self) -> tuple[Alarm, ...]:
        """Addresses that did not take their last ping."""
        with self._lock:
            unheard = dict(self._unheard)
        return tuple(
            Alarm(
                "",
                "ping-not-taken",
                f"the ping of {name} was not taken: {because}",
                name,
                next_step="backupctl alarm test",
            )
            for name, because in sorted(unheard.items())
        )

    def _about(self, database: str, suffix: str, body: str) -> None:
        target = self._options.databases.get(database)
        if target is not None:
            self._put(_Ping(target, suffix, body))

    def _put(self, one: _Ping) -> None:
        try:
            self._waiting.put_nowait(one)
        except queue.Full:
            LOG.error("a ping is dropped: too many wait", extra={"facts": {"target": str(one.target)}})

    def _send_all(self) -> None:
        while not self._stop.is_set():
            one = self._waiting.get()
            if one is None:
                return
            try:
                self._send(one)
            except Exception:
                LOG.exception("a ping ended with a bug", extra={"facts": {"target": str(one.target)}})

    def _send(self, one: _Ping) -> None:
        for number in range(TRIES_MAX):
            sent = ping(one.target, one.suffix, one.body, self._options.timeout_seconds)
            if sent.taken:
                break
            if number + 1 < TRIES_MAX and self._stop.wait(_TRY_AGAIN_SECONDS * 2**number):
                return
        with self._lock:
            known = self._unheard.pop(sent.target, None)
            if not sent.taken:
                self._unheard[sent.target] = sent.because
        if not sent.taken and known is None:
            LOG.warning("a ping was not taken", extra={"facts": {"target": sent.target, "because": sent.because}})
