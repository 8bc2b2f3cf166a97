"""A sparse file of 64 GiB: backup, check and restore of it stay below 300 MB of memory, and its holes stay holes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SIZE_BYTES = 64 << 30

PROGRAM = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from backupd.archive.age import new_identity
    from backupd.archive.keys import ArchiveKeys
    from backupd.archive.local import LocalStore
    from backupd.pipeline.fetch import fetch_file
    from tests.archive_builders import open_archive, take_full
    where = Path(sys.argv[1])
    secret, recipient = new_identity()
    (where / "key").write_text(secret)
    begun = time.monotonic()
    store = LocalStore.prepare(where / "archive")
    full = take_full(open_archive(store, keys=ArchiveKeys((recipient,))), where / "big.db", 0)
    stored = time.monotonic()
    keys = ArchiveKeys((), (where / "key",))
    fetch_file(full.record.files[0], store, where / "stage", keys=keys)
    fetched = time.monotonic()
    # Not ru_maxrss: that one remembers whoever began this process.
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(f"{peak} {stored - begun:.1f} {fetched - stored:.1f}")
    """
)


def test_a_sparse_file_of_64_gib_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "big.db"
    with path.open("wb") as file:
        file.truncate(SIZE_BYTES)
        for place in range(0, SIZE_BYTES, 1 << 30):
            file.seek(place + 12345)
            file.write(os.urandom(1 << 20))
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr
    peak_kilobytes, store_seconds, fetch_seconds = done.stdout.split()
    sys.stdout.write(f"peak {int(peak_kilobytes) / 1000:.0f} MB, backup {store_seconds} s, restore {fetch_seconds} s\n")
    assert int(peak_kilobytes) < 300_000
    stage = tmp_path / "stage"
    assert stage.stat().st_size == SIZE_BYTES
    assert stage.stat().st_blocks * 512 < 100 << 20
    with path.open("rb") as one, stage.open("rb") as other:
        for place in range(0, SIZE_BYTES, 1 << 30):
            one.seek(place)
            other.seek(place)
            assert one.read(2 << 20) == other.read(2 << 20)
