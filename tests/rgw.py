"""A real S3 server for tests: Ceph's RADOS Gateway from Debian 12 packages, unpacked into a folder, nothing installed.

About 60 MB are fetched once and kept below ``~/.cache/backupd-tests``; it runs in 0.7 GB of memory, on loopback,
with its objects in memory.  Of this version (16.2) is known: it checks signatures, MD5 and Object Lock, not SHA-256.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_WANTED = ["radosgw", "ceph-mon", "ceph-osd", "ceph-common", "libfuse2"]
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_CONFIG = """
[global]
fsid={fsid}
mon_host=v1:127.0.0.1:{mon}
ms_bind_ipv6=false
public_network=127.0.0.0/8
cluster_network=127.0.0.0/8
auth_cluster_required=none
auth_service_required=none
auth_client_required=none
osd_pool_default_size=1
osd_pool_default_min_size=1
osd_pool_default_pg_num=8
mon_allow_pool_size_one=true
osd_pool_default_pg_autoscale_mode=off
osd_crush_chooseleaf_type=0
run_dir={work}/run
admin_socket={work}/run/$name.asok
log_file={work}/$name.log
pid_file={work}/run/$name.pid
mon_data={work}/mon
osd_data={work}/osd
osd_objectstore=memstore
memstore_device_bytes=3G
plugin_dir={root}/{libraries}/ceph
erasure_code_dir={root}/{libraries}/ceph/erasure-code
osd_class_dir={root}/{libraries}/rados-classes
rgw_data={work}/rgw
rgw_frontends=beast endpoint=127.0.0.1:{port}
rgw_run_sync_thread=false
keyring={work}/keyring
mon_cluster_log_file={work}/cluster.log
"""


class CannotStand(Exception):
    """The server cannot be had here; the text says why."""


@contextmanager
def rados_gateway(work: Path, keys: dict[str, str]) -> Iterator[str]:
    """The gateway's address, with one user who has these keys; it ends with the block. Raises CannotStand."""
    root = _unpacked()
    for name in ("mon", "osd", "run", "rgw"):
        (work / name).mkdir(parents=True)
    (work / "keyring").touch()
    port, mon = _free_port(), _free_port()
    config = work / "ceph.conf"
    facts = {"fsid": uuid.uuid4(), "mon": mon, "port": port, "work": work, "root": root, "libraries": _LIBRARIES}
    config.write_text(_CONFIG.format(**facts))
    try:
        _stand_up(root, work, config, str(facts["fsid"]), mon)
        _wait("the gateway", lambda: _answers(port), 60)
        user = ["user", "create", "--uid", "t", "--display-name", "t"]
        secret = ["--access-key", keys["AWS_ACCESS_KEY_ID"], "--secret", keys["AWS_SECRET_ACCESS_KEY"]]
        _run(root, ["radosgw-admin", "-c", str(config), *user, *secret])
        yield f"http://127.0.0.1:{port}"
    finally:
        for pid in (work / "run").glob("*.pid"):
            subprocess.run(["kill", pid.read_text().strip()], check=False, capture_output=True)


def _stand_up(root: Path, work: Path, config: Path, fsid: str, mon: int) -> None:
    ceph = ["-c", str(config)]
    address = f"v1:127.0.0.1:{mon}"
    monitors, keyring = str(work / "monmap"), str(work / "keyring")
    _run(root, ["monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[{address}]", monitors])
    _run(root, ["ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"])
    _run(root, ["ceph-mon", *ceph, "--mkfs", "-i", "a", "--monmap", monitors, "--keyring", keyring])
    _run(root, ["ceph-mon", *ceph, "-i", "a", "--public-addr", address])
    disk = str(uuid.uuid4())
    # The monitor answers before it takes orders; an order that came too early is given again.
    _wait("the monitor", lambda: _works(root, ["timeout", "10", "ceph", *ceph, "osd", "new", disk, "0"]), 90)
    _run(root, ["ceph-osd", *ceph, "-i", "0", "--mkfs", "--osd-uuid", disk])
    # On a busy machine it may speak to the monitor before it knows the cluster's id ("wrong fsid"), and end.
    _wait("the disk", lambda: _works(root, ["ceph-osd", *ceph, "-i", "0"]), 60)
    _wait("the disk", lambda: "1 up" in _said(root, ["timeout", "10", "ceph", *ceph, "osd", "stat"]), 60)
    _run(root, ["radosgw", *ceph, "-n", "client.rgw", "--rgw-data", str(work / "rgw")])


def _unpacked() -> Path:
    """Where the packages are unpacked. Raises CannotStand."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "backupd-tests" / "ceph-16"
    root = cache / "root"
    if (root / ".whole").exists():
        return root
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise CannotStand(f"there is no {tool} here to fetch Ceph's packages with")
    archives = cache / "debs"
    archives.mkdir(parents=True, exist_ok=True)
    try:
        # What apt would install here is what is missing here; nothing is installed.
        plan = _fetch(["apt-get", "-qq", "--simulate", "--no-install-recommends", "install", *_WANTED], archives)
        missing = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
        _fetch(["apt-get", "-qq", "download", *missing], archives)
    except subprocess.TimeoutExpired as late:
        raise CannotStand("Ceph's packages did not come within 400 s") from late
    root.mkdir(exist_ok=True)
    for package in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(package), str(root)], check=True, capture_output=True)
    shutil.rmtree(archives)
    (root / ".whole").touch()
    return root


def _fetch(words: list[str], where: Path) -> str:
    done = subprocess.run(words, cwd=where, capture_output=True, text=True, timeout=400, check=False)
    if done.returncode:
        raise CannotStand(f"Ceph's packages cannot be fetched (apt-get update?): {done.stderr.strip()[-200:]}")
    return done.stdout


def _environment(root: Path) -> dict[str, str]:
    libraries = [root / _LIBRARIES, root / "lib/x86_64-linux-gnu", root / _LIBRARIES / "ceph", root / "usr/lib/ceph"]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "PATH": f"{root}/usr/bin:{root}/usr/sbin:{os.environ['PATH']}",
        "PYTHONPATH": f"{root}/usr/lib/python3/dist-packages",
    }


def _run(root: Path, words: list[str]) -> str:
    done = subprocess.run(words, env=_environment(root), capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise CannotStand(f"{words[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def _works(root: Path, words: list[str]) -> bool:
    try:
        _run(root, words)
    except (CannotStand, subprocess.TimeoutExpired):
        return False
    return True


def _said(root: Path, words: list[str]) -> str:
    try:
        return _run(root, words)
    except (CannotStand, subprocess.TimeoutExpired):
        return ""


def _wait(what: str, condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise CannotStand(f"{what} was not there within {seconds:g} s")
        time.sleep(1)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
