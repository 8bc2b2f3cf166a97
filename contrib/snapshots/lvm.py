#!/usr/bin/env python3
"""NOT RUN BY US: an LVM snapshot of the volume that holds the directory, mounted read-only; JSON in and out.

Needs root (write take = ["sudo", "-n", "/usr/local/lib/backupd/lvm.py"] in the policy, and a line in sudoers).
A thick volume needs room for what changes while the backup reads: BACKUPD_LVM_SIZE=20%ORIGIN; empty for a thin one.
"""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

MOUNTS = Path("/run/backupd-lvm")


def words(*argv: str) -> str:
    """What a command says; its complaint goes to our standard error."""
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def name_of(asked: dict) -> str:
    """One name for each directory and label, of LVM's letters."""
    return f"backupd-{asked['label']}-{zlib.crc32(asked['directory'].encode()):08x}"


def volume_of(directory: str) -> tuple[str, str, Path, str]:
    """Volume group, volume, where it is mounted, and with which filesystem."""
    shown = json.loads(words("findmnt", "-J", "-o", "SOURCE,TARGET,FSTYPE", "--target", directory))["filesystems"][0]
    group, volume = words("lvs", "--noheadings", "-o", "vg_name,lv_name", shown["source"]).split()
    return group, volume, Path(shown["target"]), shown["fstype"]


def take(asked: dict) -> dict:
    """Snapshot the volume (LVM holds the filesystem still meanwhile) and mount the snapshot."""
    group, volume, mounted, kind = volume_of(asked["directory"])
    name = name_of(asked)
    size = os.environ.get("BACKUPD_LVM_SIZE", "20%ORIGIN")
    sized = ["-l", size] if size else []
    words("lvcreate", "-q", "-y", "-s", "-kn", *sized, "-n", name, f"{group}/{volume}")
    place = MOUNTS / name
    place.mkdir(mode=0o700, parents=True)
    # A snapshot of XFS has the UUID of its origin; a log that was not replayed must not be replayed on a read-only one.
    options = {"xfs": "ro,nouuid,norecovery", "ext4": "ro,noload"}.get(kind, "ro")
    words("mount", "-o", options, f"/dev/{group}/{name}", str(place))
    below = Path(asked["directory"]).resolve().relative_to(mounted)
    return {"directory": str(place / below), "handle": f"{group}/{name}"}


def release(asked: dict) -> dict:
    """Unmount and remove it, if it is there. Only a volume that is named like ours is ever removed."""
    name = name_of(asked)
    handle = asked.get("handle") or f"{volume_of(asked['directory'])[0]}/{name}"
    if not handle.endswith(f"/{name}"):
        sys.exit(f"not a snapshot of ours: {handle}")
    place = MOUNTS / name
    if place.is_mount():
        words("umount", str(place))
    if place.exists():
        place.rmdir()
    if subprocess.run(["lvs", handle], capture_output=True, check=False).returncode == 0:
        words("lvremove", "-q", "-y", handle)
    return {}


if __name__ == "__main__":
    question = json.load(sys.stdin)
    json.dump({"take": take, "release": release}[question["action"]](question), sys.stdout)
