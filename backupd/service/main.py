"""backupd: runs replication in the foreground until SIGTERM or SIGINT; plain argparse keeps it small in memory."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from backupd import __version__
from backupd.errors import BackupdError, Busy, NotFound, UsageProblem
from backupd.service.keeper import Keeper
from backupd.service.lines import log_to_stderr
from backupd.steps import set_process_role

if TYPE_CHECKING:
    from types import FrameType

    from backupd.bootstrap import House

LOG = logging.getLogger("service")
TICK_SECONDS = 0.25

DESCRIPTION = "Runs the replication of every database that a policy names, in the foreground, until SIGTERM or SIGINT."
EPILOG = """\
example:
  backupd --config /etc/backupd/backupd.toml

Backups, restores and all else are asked for with backupctl.

exit status: 0 stopped by SIGTERM or SIGINT, 1 a bug, 2 usage, 3 config or policy invalid, 5 no policy,
7 the state directory cannot be used, 9 another service runs on the same state directory."""


class _Parser(argparse.ArgumentParser):
    """Fails in the three-line style."""

    def error(self, message: str) -> NoReturn:
        """Raise what the command line is told."""
        raise UsageProblem(message, because="the usage is: backupd --config FILE", next_step="backupd --help")


def _parser() -> _Parser:
    parser = _Parser(
        prog="backupd", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", metavar="FILE", help="the service config; else $BACKUPD_CONFIG, else ./backupd.toml"
    )
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="what is logged to stderr"
    )
    parser.add_argument("--version", action="version", version=f"backupd {__version__}")
    return parser


def run(arguments: Sequence[str], stop: threading.Event | None = None) -> int:
    """Serve until ``stop`` is set; answers with the exit status. A bug is raised as it is."""
    stop = stop or threading.Event()
    try:
        options = _parser().parse_args(arguments)
        log_to_stderr(options.log_level)
        serve(_config_path(options.config), stop)
    except BackupdError as error:
        sys.stderr.write("\n".join(error.lines()) + "\n")
        return error.exit_status
    return 0


def _config_path(option: str | None) -> Path:
    from backupd.policy.load import find_config

    here = Path("backupd.toml")
    if not option and not os.environ.get("BACKUPD_CONFIG") and here.is_file():
        option = str(here)
    return find_config(option, os.environ)


def serve(config: Path, stop: threading.Event) -> None:
    """Open the house and keep every database's replication going until ``stop`` is set.

    Raises:
        ConfigInvalid: the config or a policy cannot be used; nothing was started.
        NotFound: there is no policy.
        Busy: another service runs on the same state directory.
    """
    from backupd.bootstrap import open_house
    from backupd.journal.lease import RunLease

    house = open_house(config)
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
            _serve(house, stop)
        finally:
            lease.release()
    finally:
        house.close()


def _now() -> datetime:
    return datetime.now(UTC)


def _serve(house: House, stop: threading.Event) -> None:
    keepers = [Keeper(replicator) for replicator in house.replicators()]
    others = sorted(set(house.databases()) - {keeper.database for keeper in keepers})
    if not keepers and not others:
        raise NotFound(
            "there is nothing to do",
            because=f"{house.config.policies_dir} holds no policy",
            next_step="write one with: backupctl init DIR --database NAME --copy a=PATH --copy b=PATH --active a",
        )
    served = ",".join([*(keeper.database for keeper in keepers), *others])
    LOG.info("backupd starts", extra={"facts": {"version": __version__, "pid": os.getpid(), "databases": served}})
    for name in others:
        recover_first(house, name)
    try:
        keep_going(keepers, stop, time.monotonic)
    finally:
        LOG.info("backupd stops", extra={"facts": {"pid": os.getpid()}})
        stop_all(keepers)


def recover_first(house: House, database: str) -> None:
    """End what a dead run has left on servers that replicate by themselves: a pause of replay above all."""
    from backupd.runs.recover import run_recover

    try:
        for sentence in run_recover(house.context(database)):
            LOG.info("recovered: %s", sentence, extra={"facts": {"database": database}})
    except BackupdError as error:
        LOG.warning("not recovered: %s (%s)", error.problem, error.because, extra={"facts": {"database": database}})


def keep_going(keepers: Sequence[Keeper], stop: threading.Event, clock: Callable[[], float]) -> None:
    """Tick every keeper a few times a second until ``stop`` is set."""
    while not stop.is_set():
        for keeper in keepers:
            keeper.tick(clock())
        stop.wait(TICK_SECONDS)


def stop_all(keepers: Sequence[Keeper]) -> None:
    """Stop all at the same time: each may need seconds to ship its last log."""
    threads = [threading.Thread(target=keeper.stop, name=f"stop {keeper.database}") for keeper in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    """The command ``backupd``."""
    set_process_role("service")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # there are none, and looking for them costs time
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    sys.exit(run(sys.argv[1:], stop))


if __name__ == "__main__":
    main()
