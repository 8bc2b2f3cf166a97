"""A copy that fails or dies at any numbered step leaves each backup whole or not at all, and the next one finishes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from backupd import steps
from backupd.errors import BackupdError
from tests.archive.replicas import Pair
from tests.dying import dies_at
from tests.s3_buckets import Bucket
from tests.s3_servers import keys_of_nobody, memory_process

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


@pytest.fixture(params=["to a directory", "to a bucket"])
def bucket(request: pytest.FixtureRequest) -> Iterator[Bucket | None]:
    if request.param == "to a directory":
        yield None
        return
    with keys_of_nobody(), memory_process() as server:
        yield Bucket.made(server, ("second",))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_copy_that_dies_at_any_step(base: Path, bucket: Bucket | None) -> None:
    empty = bucket.keep() if bucket else None
    for number in range(1, STEPS_MAX):
        pair = again(base, number)
        if bucket and empty:
            bucket.put_back(empty)
            pair.bucket = bucket
        died = dies_at(number, partial(pair.copy, threads=2))
        judge(pair)
        if not died:
            assert number > 40, "hardly any step was counted"
            return
    pytest.fail("the copy has more steps than this test allows for")
