"""How fast a full backup into a bucket is, beside `zstd -3 -T2 | aws s3 cp -` of the same file, in one run.

    python contrib/bench/s3_speed.py --endpoint http://127.0.0.1:5610 --aws /path/to/aws [--size-mb 1000] [--runs 5]

Keys come from boto3's own chain (AWS_ACCESS_KEY_ID, ...); the server should be on this machine. A backup is all of
it: page check, every hash, compression, PUTs, read-back proof where the server does not check what arrives, record.
Encrypted too, by the side. CPU seconds are those of the clients, the server's are not counted.
"""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from archive_speed import Work, arguments, database_of, measured


class BucketWork(Work):
    """The same work, with its archive in a bucket."""

    def __init__(self, database: Path, directory: Path, endpoint: str, bucket: str, *, encrypted: bool) -> None:
        super().__init__(database, directory)
        from backupd.archive.age import new_identity
        from backupd.archive.keys import ArchiveKeys
        from backupd.archive.s3.place import S3Place
        from backupd.archive.s3.store import S3Store
        from tests.archive_builders import ObedientClock, open_archive

        _, recipient = new_identity()
        self.encrypted = encrypted
        keys = ArchiveKeys((recipient,)) if encrypted else None
        place = S3Place(bucket, uuid4().hex, endpoint_url=endpoint, path_style=True)
        self._open = lambda: open_archive(S3Store(place), ObedientClock(), keys=keys)
        self._open()  # made, and the server tried out, before anything is measured


def main() -> None:
    """Make the database and the bucket, measure in turn, print."""
    words = arguments(__doc__)
    words.add_argument("--endpoint", required=True)
    words.add_argument("--aws", default="aws")
    wishes = words.parse_args()
    import boto3

    bucket = f"speed-{uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=wishes.endpoint).create_bucket(Bucket=bucket)
    with database_of(wishes) as (database, directory):
        works = [BucketWork(database, directory, wishes.endpoint, bucket, encrypted=each) for each in (False, True)]
        send = f"{wishes.aws} --endpoint-url {wishes.endpoint} s3 cp - s3://{bucket}/peer --quiet"

        def by_hand() -> None:
            pipe = f"set -o pipefail; zstd -q -3 -T2 -c {database} | {send}"
            subprocess.run(["bash", "-c", pipe], check=True)

        sides: list[tuple[str, Callable[[], None]]] = [
            ("zstd | aws s3 cp -", by_hand),
            ("backup", works[0].backup),
            ("backup, encrypted", works[1].backup),
        ]
        report(sides, database.stat().st_size / 1e6, wishes.runs, works[0])


def report(sides: list[tuple[str, Callable[[], None]]], megabytes: float, runs: int, work: Work) -> None:
    """Measure all sides in turn, and print medians and ratios to the first, pair by pair."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in sides}
    for _ in range(runs):
        for name, call in sides:
            work.warm()
            seen[name].append(measured(call))
    first = seen[sides[0][0]]
    for name, _ in sides:
        wall, cpu = (statistics.median(each[place] for each in seen[name]) for place in (0, 1))
        ratios = [mine[0] / other[0] for mine, other in zip(seen[name], first, strict=True)]
        spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f} to {max(ratios):.2f}]"
        print(f"{name:20} {megabytes / wall:6.0f} MB/s  {wall:6.2f} s  {cpu:6.2f} cpu-s  wall ratio {spread}")


if __name__ == "__main__":
    main()
