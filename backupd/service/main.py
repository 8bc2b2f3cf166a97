"""backupd: serves in the foreground until SIGTERM or SIGINT; plain argparse keeps it small in memory."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from backupd import __version__
from backupd.errors import BackupdError, UsageProblem
from backupd.lines.settings import LEVELS, LineForm, LineSettings
from backupd.lines.setup import say_error, set_up
from backupd.steps import set_process_role

if TYPE_CHECKING:
    from types import FrameType

    from backupd.policy.service_file import ServiceOptions

DESCRIPTION = """\
Keeps the replication of every database going that a policy names, and takes backups by the policies' schedules,
in the foreground, until SIGTERM or SIGINT. SIGHUP, or a change of a policy file, reads the policies anew."""
EPILOG = """\
example:
  backupd --config /etc/backupd/backupd.toml

Backups by hand, restores and all else are asked for with backupctl.

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
        "--log",
        choices=[str(form) for form in LineForm],
        help="how it is logged to stderr: key=value pairs, or a JSON object a line; else log in [service], else human",
    )
    parser.add_argument(
        "--log-level", choices=LEVELS, help="the least level that is logged; else log_level in [service], else info"
    )
    parser.add_argument("--version", action="version", version=f"backupd {__version__}")
    return parser


def run(arguments: Sequence[str], stop: threading.Event | None = None, reload: threading.Event | None = None) -> int:
    """Serve until ``stop`` is set; answers with the exit status. A bug is raised as it is."""
    from backupd.service.serve import serve

    stop = stop or threading.Event()
    try:
        options = _parser().parse_args(arguments)

        def log_as(service: ServiceOptions | None) -> None:
            form = options.log or (service.log if service else LineForm.HUMAN)
            set_up(LineSettings(LineForm(form), options.log_level or (service.log_level if service else "info")))

        log_as(None)  # until the config is read
        serve(_config_path(options.config), stop, reload, log_as)
    except BackupdError as error:
        say_error(error)
        return error.exit_status
    return 0


def _config_path(option: str | None) -> Path:
    from backupd.policy.load import find_config

    here = Path("backupd.toml")
    if not option and not os.environ.get("BACKUPD_CONFIG") and here.is_file():
        option = str(here)
    return find_config(option, os.environ)


def main() -> None:
    """The command ``backupd``."""
    set_process_role("service")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # there are none, and looking for them costs time
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would begin threads, for algebra that nobody does here
    stop, reload = threading.Event(), threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        (reload if number == signal.SIGHUP else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    sys.exit(run(sys.argv[1:], stop, reload))


if __name__ == "__main__":
    main()
