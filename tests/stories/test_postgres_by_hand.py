"""A person with zstd, Python and the format page restores a PostgreSQL backup: no backupd, nothing installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.stories.pg_home import ROOT, pg_home

FORMAT = ROOT / "backupd" / "archive" / "FORMAT.md"


@pytest.mark.real
@pytest.mark.slow
def test_a_person_restores_a_cluster_by_hand() -> None:
    with pg_home() as home:
        made = home.backup("full")
        rows = home.rows()
        home.pair.active.pgbench("-t", 30)
        more = home.backup("incremental")
        person = home.pair.a.person
        hand = home.root / "hand"
        person.own(hand)
        (database,) = (home.archive / "db").iterdir()

        def record(backup_id: str) -> dict[str, object]:
            read: dict[str, object] = json.loads((database / "backup" / backup_id).read_bytes().split(b"\n", 1)[1])
            return read

        full = record(made["id"])
        segments = " ".join(str(path) for path in sorted((database / "data" / made["id"]).iterdir()))
        subprocess.run(["bash", "-c", f"cat {segments} | zstd -dc > {hand}/all"], check=True)
        whole, at = (hand / "all").read_bytes(), 0
        for file, name in zip(full["files"], ("volume", "control", "table"), strict=True):  # type: ignore[call-overload]
            (hand / name).write_bytes(whole[at : at + file["size_bytes"]])
            at += file["size_bytes"]
        program = re.findall(r"```python\n(.*?)```", FORMAT.read_text(encoding="utf-8"), re.DOTALL)[-1]
        out = hand / "data"
        words = [str(hand / name) for name in ("volume", "control", "table")]
        subprocess.run([sys.executable, "-c", program, *words, str(out)], check=True)
        for one in (full, record(more["id"])):
            for log in one["logs"]:  # type: ignore[attr-defined]
                history, number = log["log"]["history"], log["log"]["number"]
                name = f"{int(history):08X}{number // 256:08X}{number % 256:08X}"  # segments of 16 MiB
                stored = home.archive / log["name"]
                with (out / "pg_wal" / name).open("wb") as target:
                    subprocess.run(["zstd", "-dc", "-q"], stdin=stored.open("rb"), stdout=target, check=True)
        (out / "recovery.signal").touch()
        with (out / "postgresql.auto.conf").open("a") as settings:
            settings.write("restore_command = 'false'\nrecovery_target_action = promote\n")
        subprocess.run(["chown", "-R", f"{person.uid}:{person.gid}", str(out)], check=True)
        with home.opened(out) as server:
            assert int(server.psql("SELECT count(*) FROM pgbench_history")) == rows + 30
        home.check_restored(out)
