#!/usr/bin/env python3
"""Clones a directory with cp --reflink beside itself: take or release, JSON in and out (see README.md).

BACKUPD_REFLINK=auto lets cp copy the bytes where the filesystem cannot clone; the default, always, refuses.
"""

import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path


def place_of(asked: dict) -> Path:
    """One place for each directory and label, on the filesystem of the directory."""
    directory = Path(asked["directory"])
    return directory.parent / ".backupd-exec" / f"{asked['label']}-{zlib.crc32(asked['directory'].encode()):08x}"


def take(asked: dict) -> dict:
    """Clone all of it, then say where it is."""
    place = place_of(asked)
    place.parent.mkdir(mode=0o700, exist_ok=True)
    place.mkdir(mode=0o700)
    reflink = os.environ.get("BACKUPD_REFLINK", "always")
    subprocess.run(["cp", "-a", f"--reflink={reflink}", f"{asked['directory']}/.", str(place)], check=True)
    place.chmod(0o700)
    return {"directory": str(place), "handle": place.name}


def release(asked: dict) -> dict:
    """Remove the clones; the handle is not needed, for the name is made of the question."""
    place = place_of(asked)
    if place.exists():
        shutil.rmtree(place)
    if place.parent.exists() and not any(place.parent.iterdir()):
        place.parent.rmdir()
    return {}


if __name__ == "__main__":
    question = json.load(sys.stdin)
    json.dump({"take": take, "release": release}[question["action"]](question), sys.stdout)
