"""What tests of several rooms share: real filesystems, and no fault left armed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from backupd import steps
from tests.loop_mounts import loop_mount


def pytest_configure() -> None:
    """A shell's background job ignores SIGINT, and so would every program that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes is the machine's affair, and no property.
    settings.register_profile("properties", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("properties")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root at once for a plain user, so that the summary says it once a file."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root (loop mounts, other users)"))


@pytest.fixture(scope="session")
def btrfs_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The top of a btrfs filesystem of 256 MiB."""
    with loop_mount(tmp_path_factory.mktemp("loop"), "btrfs", size_bytes=256 << 20) as mounted:
        yield mounted


@pytest.fixture(scope="session")
def xfs_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The top of an XFS filesystem of 512 MiB that can share blocks."""
    with loop_mount(tmp_path_factory.mktemp("loop"), "xfs", size_bytes=512 << 20, make=["-m", "reflink=1"]) as mounted:
        yield mounted


@pytest.fixture(autouse=True)
def _no_fault_left() -> Iterator[None]:
    yield
    steps.disarm()
