"""The passive's process: receives, inspects and replays log files, and pauses when asked.

Run as ``python -m backupd.engines.sqlite.replayer CONFIG.json`` by the
supervisor, with a pipe on stdin: when that closes, the parent is dead and this
process ends after the log in hand.  It is the only process that opens the
passive's file.  Nothing heavy is imported here: it lives as long as the service.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from backupd.durable import read_json
from backupd.engines.sqlite.control import ControlServer, Message
from backupd.engines.sqlite.inspect import ChainEnd, Inspector, chain_end
from backupd.engines.sqlite.locks import take_lock
from backupd.engines.sqlite.log_source import SameHost
from backupd.engines.sqlite.receiver import Receiver
from backupd.engines.sqlite.replay import Replay
from backupd.engines.sqlite.replay_loop import ReplayLoop
from backupd.engines.sqlite.replay_requests import ReplayConfig, Requests
from backupd.errors import DamageFound
from backupd.lines.bound import bind
from backupd.lines.settings import from_environment
from backupd.lines.setup import set_up
from backupd.model.pair import CopyState
from backupd.steps import set_process_role

LOG = logging.getLogger("replay")
_SEED_STATES = (CopyState.INITIALIZING, CopyState.MUST_SEED)


class Replayer:
    """Wires the two threads and answers the control socket."""

    def __init__(self, config: ReplayConfig) -> None:
        self.config = config
        replay = Replay(config.db_path, config.state_dir)
        stored = read_json(config.suspended)
        self.loop = ReplayLoop(
            replay,
            config.state_dir / "frozen.map",
            suspended=str(stored.get("comment", "")) if stored is not None else None,
            on_change=self._wake_main,
        )
        marker = replay.marker
        history = marker.applying.history if marker.applying else marker.history
        self.inspector = Inspector(replay.logs, _known_end(replay, history))
        self.receiver = Receiver(
            self.inspector,
            SameHost(config.source_log_dir),
            config.capture_socket,
            on_log=self.loop.wake,
            may_copy=lambda: self.loop.suspended is None,
            needs_seed=self._needs_seed,
        )
        self.requests = Requests(self)
        self._stopping = False
        self._bug = False
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.server = ControlServer(
            config.control_socket,
            self.requests.handlers(),
        )

    def _needs_seed(self) -> str:
        marker = self.loop.replay.marker
        if not self.config.auto_seed or marker.state not in _SEED_STATES:
            return ""
        return marker.because

    # --- the process ------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to stop; answers with the exit status."""
        threads = [threading.Thread(target=self._guarded, args=(one.run,)) for one in (self.loop, self.receiver)]
        self.server.watch(0, self._parent_gone)
        self.server.watch(self._wake_fd, self._woken)
        for thread in threads:
            thread.start()
        while not self._stopping:
            self.server.poll(0.25)
            self.requests.answer_waiters()
        self.receiver.stop()
        self.loop.stop()
        for thread in threads:
            thread.join()
        self.server.close()
        return 1 if self._bug else 0

    def _guarded(self, run: Callable[[], None]) -> None:
        """A bug in one thread ends the process; the supervisor starts it again."""
        try:
            run()
        except Exception:
            LOG.exception("stopped by a bug")
            self._bug = True
        self.stop()

    def stop(self) -> None:
        """End ``run``; the log in hand is finished first."""
        self._stopping = True
        self._wake_main()

    def _parent_gone(self) -> None:
        self.server.unwatch(0)
        self.stop()

    def _wake_main(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def _woken(self) -> None:
        os.eventfd_read(self._wake_fd)

    def facts(self) -> Message:
        """What ``status`` answers."""
        marker, end = self.loop.replay.marker, self.inspector.end
        state, because = self.loop.state(self.receiver.trouble)
        held = self.loop.replay.logs.history(end.history).held() if end else None
        replay_queue = 0
        if end is not None:
            replay_queue = end.number - (marker.number if marker.history == end.history else 0)
        return {
            "state": str(state),
            "because": because,
            "pid": os.getpid(),
            "at_us": time.time_ns() // 1000,
            "history": marker.history,
            "inspected": {"history": end.history, "number": end.number, "offset": end.offset} if end else None,
            "replayed": {"history": marker.history, "number": marker.number, "offset": marker.offset}
            if marker.history
            else None,
            "copy_queue_logs": self.receiver.queue,
            "replay_queue_logs": max(0, replay_queue),
            "held_log_count": held.count if held else 0,
            "held_log_bytes": held.size_bytes if held else 0,
            "held_log_seconds": max(0.0, time.time() - held.oldest_unix) if held and held.oldest_unix else 0.0,
            "last_commit_us": marker.last_commit_us,
            "stamps": marker.stamps,
            "pages": marker.pages,
            "page_bytes": marker.page_bytes,
            "checksum": f"{marker.checksum:016x}",
            "frozen": self.loop.frozen,
            "suspended": self.loop.suspended,
            "refetched_logs": self.inspector.retries,
            "refused_logs": self.inspector.refused,
        }


def _known_end(replay: Replay, history: str) -> ChainEnd | None:
    if not history:
        return None
    try:
        return chain_end(replay.logs, history)
    except DamageFound as error:
        LOG.warning("%s", error)
        return None


def main() -> None:
    """Entry point."""
    set_process_role("replay")
    set_up(from_environment(os.environ), small=True)
    config = ReplayConfig.read(Path(sys.argv[1]))
    bind(database=config.database)
    config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    take_lock(config.state_dir / "replay.lock")
    replayer = Replayer(config)
    signal.signal(signal.SIGTERM, lambda *_: replayer.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(replayer.run())


if __name__ == "__main__":
    main()
