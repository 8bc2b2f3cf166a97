"""A process that has set its lines up writes nothing else: not what a library, a thread or Python would print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backupd.lines.settings import LineForm, LineSettings, from_environment, hand_on

ROOT = Path(__file__).parents[2]
SECRET = "hunter2hunter2"

TALK = """
import logging, sys, threading, warnings
from backupd.lines.bound import bind
from backupd.lines.settings import from_environment
from backupd.lines.setup import set_up
import os
set_up(from_environment(os.environ), small=SMALL)
bind(run="r1")
secret = os.environ["THE_PASSWORD"]

class Rude:
    def __str__(self):
        raise ValueError(secret)

for name in ("apprise", "urllib3.connectionpool", "httpx", "botocore.auth", "apscheduler", "uvicorn.access", "x"):
    library = logging.getLogger(name)
    library.setLevel(logging.DEBUG)
    library.debug("debug of a library: %s", secret)
    library.info("GET https://h/%s", secret)
logging.getLogger("apprise").propagate = False
logging.getLogger("apprise").warning("not sent to %s", secret)
logging.getLogger("urllib3").warning("retrying https://h/%s", secret)
logging.getLogger("service").debug("hidden")
logging.getLogger("service").info("one\\n%s", b"\\xff\\xfe" + secret.encode())
logging.getLogger("service").info("%d", secret)
logging.getLogger("service").error("rude %s", Rude(), extra={"facts": {"x": secret}})
warnings.warn(f"a warning {secret}")
thread = threading.Thread(target=lambda: 1 / len(secret[:0]))
thread.start()
thread.join()

class Late:
    def __del__(self):
        raise RuntimeError(secret)

Late()
raise RuntimeError("the end " + secret)
"""


def talk(form: LineForm, *, small: bool) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", TALK.replace("SMALL", str(small))],
        env={"PYTHONPATH": str(ROOT), "BACKUPD_LOG": str(form), "THE_PASSWORD": SECRET},
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    return done.stderr.decode().splitlines()


@pytest.mark.parametrize("small", [False, True])
def test_all_that_a_process_says_is_lines_of_json_without_a_secret(small: bool) -> None:
    lines = talk(LineForm.JSON, small=small)
    said = [json.loads(line) for line in lines]
    assert [(one["level"], one["from"], one["event"].partition(" http")[0][:40]) for one in said] == [
        ("warning", "apprise", "not sent to ***"),
        ("warning", "urllib3", "retrying"),
        ("info", "service", "one\nb'\\xff\\xfe***'"),
        ("info", "service", "a line could not be put together"),
        ("error", "service", "a line could not be put together"),
        ("warning", "py.warnings", "<string>:27: UserWarning: a warning ***\n"),
        ("critical", "service", "a thread ended by a bug"),
        ("critical", "service", "a bug that nobody could be told"),
        ("critical", "service", "ended by a bug"),
    ]
    assert "ZeroDivisionError" in said[6]["traceback"]
    assert "the end ***" in said[8]["traceback"]
    assert SECRET not in "".join(lines)
    assert {one["run"] for one in said} == {"r1"}
    assert all(one["time"].endswith("+00:00") for one in said)


def test_the_same_for_a_person_is_one_line_each() -> None:
    lines = talk(LineForm.HUMAN, small=False)
    assert lines == [line for line in lines if line.startswith("time=2") and " run=r1 " in f"{line} "]
    assert len(lines) == 9
    assert SECRET not in "".join(lines)


def test_a_process_hands_its_settings_on() -> None:
    environ: dict[str, str] = {}
    hand_on(LineSettings(LineForm.JSON, "warning"), environ)
    assert from_environment(environ) == LineSettings(LineForm.JSON, "warning")
    assert from_environment({}) == LineSettings(LineForm.HUMAN, "info")
    assert from_environment({"BACKUPD_LOG": "xml", "BACKUPD_LOG_LEVEL": "loud"}) == LineSettings()


@pytest.mark.parametrize("process", ["capture_process", "replayer"])
def test_a_process_that_lives_as_long_as_the_service_stays_small(process: str) -> None:
    words = (
        f"import sys, backupd.engines.sqlite.{process} as one\n"
        "from backupd.lines.settings import LineSettings\n"
        "one.set_up(LineSettings(), small=True)\n"
        "one.LOG.warning('x')\n"
        "sys.exit(int('structlog' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", words], env={"PYTHONPATH": str(ROOT)}, capture_output=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stderr.count(b"event=x")) == (0, 1), done.stderr


def test_backupctl_prints_no_library_s_words_and_does_not_load_structlog() -> None:
    words = (
        "import logging, sys\n"
        "from backupd.cli import main\n"
        "def run(words):\n"
        "    logging.getLogger('apprise').propagate = False\n"
        "    for name in ('botocore', 'apprise'):\n"
        "        logging.getLogger(name).critical('x')\n"
        "    return int('structlog' in sys.modules)\n"
        "main.run = run\n"
        "main.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", words], env={"PYTHONPATH": str(ROOT)}, capture_output=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
