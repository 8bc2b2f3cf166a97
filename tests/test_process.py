"""Which process something belongs to: told by its name, and whether that process still lives."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from backupd.process import lives_by_mark, mark_of_process


def test_our_own_mark_lives_whatever_follows_it() -> None:
    mark = mark_of_process()
    assert lives_by_mark(mark) is True
    assert lives_by_mark(f"{mark}-0123abcd.part") is True


def test_a_process_that_is_gone_and_one_that_only_has_its_pid_are_dead() -> None:
    program = "from backupd.process import mark_of_process; print(mark_of_process())"
    dead = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert lives_by_mark(dead) is False
    host, boot, _, started = mark_of_process().split("-")
    assert lives_by_mark(f"{host}-{boot}-{os.getpid()}-{int(started) + 1}-x") is False
    assert lives_by_mark(f"{host}-00000000-{os.getpid()}-{started}-x") is False, "it is of another boot"


@pytest.mark.parametrize("name", ["", "x", "00000000-00000000-1-1-x", "L1", "a-b-c-d"])
def test_of_another_host_and_of_what_has_no_mark_nobody_can_say(name: str) -> None:
    assert lives_by_mark(name) is None
