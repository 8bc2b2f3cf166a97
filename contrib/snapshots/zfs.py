#!/usr/bin/env python3
"""NOT RUN BY US: a ZFS snapshot of the dataset that holds the directory; JSON in and out (see README.md).

Needs the rights to snapshot and destroy: zfs allow -u USER snapshot,destroy,mount tank/pg
"""

import json
import subprocess
import sys
import zlib
from pathlib import Path


def words(*argv: str) -> str:
    """What a command says; its complaint goes to our standard error."""
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def dataset_of(directory: str) -> tuple[str, Path]:
    """The dataset, and where it is mounted."""
    source, target = words("findmnt", "-n", "-t", "zfs", "-o", "SOURCE,TARGET", "--target", directory).split(None, 1)
    return source, Path(target)


def snapshot_of(asked: dict) -> tuple[str, Path]:
    """The snapshot's full name, and where its files of the directory are found."""
    dataset, mounted = dataset_of(asked["directory"])
    name = f"backupd-{asked['label']}-{zlib.crc32(asked['directory'].encode()):08x}"
    below = Path(asked["directory"]).resolve().relative_to(mounted)
    return f"{dataset}@{name}", mounted / ".zfs" / "snapshot" / name / below


def take(asked: dict) -> dict:
    """Snapshot it; ZFS shows it below .zfs by itself."""
    name, place = snapshot_of(asked)
    words("zfs", "snapshot", name)
    return {"directory": str(place), "handle": name}


def release(asked: dict) -> dict:
    """Destroy it, if it is there. Only a snapshot that is named like ours is ever destroyed."""
    name = asked.get("handle") or snapshot_of(asked)[0]
    if "@backupd-" not in name:
        sys.exit(f"not a snapshot of ours: {name}")
    there = subprocess.run(["zfs", "list", "-t", "snapshot", name], capture_output=True, check=False)
    if there.returncode == 0:
        words("zfs", "destroy", name)
    return {}


if __name__ == "__main__":
    question = json.load(sys.stdin)
    json.dump({"take": take, "release": release}[question["action"]](question), sys.stdout)
