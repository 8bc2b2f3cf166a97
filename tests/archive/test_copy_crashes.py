"""A copy that fails or dies at any numbered step leaves each backup whole or not at all, and the next one finishes."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from backupd import steps
from backupd.errors import BackupdError
from tests.archive.replicas import Pair

STEPS_MAX = 200


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    Pair(tmp_path / "base").fill()
    return tmp_path / "base"


def again(base: Path, number: int) -> Pair:
    root = base.with_name(f"at-{number}")
    shutil.copytree(base, root)
    return Pair(root)


def judge(pair: Pair) -> None:
    """Right after it, after recovery, and after the next copy."""
    pair.assert_whole_or_nothing()
    pair.settle()
    assert pair.settle() == (), "recovery is not finished by one call"
    pair.assert_whole_or_nothing()
    pair.copy()
    pair.assert_same()
    shutil.rmtree(pair.root)


@pytest.mark.parametrize("prefix", ["copy.commit", pytest.param("", marks=pytest.mark.slow)])
def test_a_copy_that_fails_at_any_step(base: Path, prefix: str) -> None:
    for number in range(1, STEPS_MAX):
        pair = again(base, number)
        steps.arm("fail", number, prefix)
        failed = True
        try:
            pair.copy()
            failed = False
        except BackupdError:
            pass
        finally:
            counted = steps.disarm()
        judge(pair)
        if counted < number:
            assert not failed
            assert number > (4 if prefix else 40), "hardly any step was counted"
            return
    pytest.fail("the copy has more steps than this test allows for")


@pytest.mark.slow
def test_a_copy_that_dies_at_any_step(base: Path) -> None:
    for number in range(1, STEPS_MAX):
        pair = again(base, number)
        child = os.fork()
        if child == 0:
            try:
                steps.arm("die", number)
                pair.copy(threads=2)
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        died = os.WIFSIGNALED(status)
        assert (os.WTERMSIG(status) == signal.SIGKILL) if died else (os.waitstatus_to_exitcode(status) == 0)
        judge(pair)
        if not died:
            assert number > 40, "hardly any step was counted"
            return
    pytest.fail("the copy has more steps than this test allows for")
