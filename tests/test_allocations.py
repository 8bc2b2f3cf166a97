"""Blocks that are freed serve again without a page fault while megabytes pass, and go back to the kernel afterwards."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest

BLOCK_BYTES = 1 << 20
ROUNDS = 300
PAGE_BYTES = resource.getpagesize()

PROBE = f"""
import resource, threading
from contextlib import nullcontext
from backupd.allocations import blocks_reused

def rounds():
    for _ in range({ROUNDS}):
        blocks = [b"x" * {BLOCK_BYTES} for _ in range(4)]

def faults(context):
    with context:
        thread = threading.Thread(target=rounds)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        thread.start(); thread.join()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = faults(blocks_reused())
print(kept, faults(nullcontext()))
"""


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * PAGE_BYTES


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_a_block_serves_again_without_a_fault_only_inside() -> None:
    said = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout
    inside, outside = map(int, said.split())
    pages_of_a_round = 4 * BLOCK_BYTES // PAGE_BYTES
    assert inside < 10 * pages_of_a_round
    assert outside > inside


def test_what_was_kept_goes_back_when_the_last_one_ends() -> None:
    from backupd.allocations import blocks_reused

    with blocks_reused():
        with blocks_reused():
            blocks = [bytes(BLOCK_BYTES - 100) for _ in range(64)]
            before = resident_bytes()
            del blocks
        assert resident_bytes() > before - (32 << 20)
    assert resident_bytes() < before - (32 << 20)
