"""Real filesystems for tests: a sparse file, formatted, mounted by loop, always unmounted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def loop_mount(
    base: Path, kind: str, *, size_bytes: int, make: Sequence[str] = (), options: str = "loop"
) -> Iterator[Path]:
    """A fresh filesystem of ``kind`` (btrfs, xfs) mounted below ``base``; skips with a sentence where it cannot be."""
    if os.geteuid() != 0:
        pytest.skip(f"a loop-mounted {kind} needs root")
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"mkfs.{kind} is not installed")
    image, mounted = base / f"{kind}.img", base / kind
    with image.open("wb") as file:
        file.truncate(size_bytes)
    mounted.mkdir()
    subprocess.run([f"mkfs.{kind}", "-q", *make, str(image)], check=True, capture_output=True)
    tried = subprocess.run(
        ["mount", "-o", options, str(image), str(mounted)], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        pytest.skip(f"this machine cannot mount {kind} by loop: {tried.stderr.strip()}")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "--lazy", str(mounted)], check=True)
        image.unlink()


@contextmanager
def bound(source: Path, place: Path) -> Iterator[Path]:
    """``source`` under a second name; skips with a sentence where that cannot be."""
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a bind mount needs root")
    tried = subprocess.run(["mount", "--bind", str(source), str(place)], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"this machine cannot bind a directory: {tried.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
