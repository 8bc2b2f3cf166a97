"""Which lines of pg_waldump are given back: those of the resource managers asked for, whatever its version."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.engines.postgres.wal_lines import record_lines

# One that knows which lines to print as the real ones do: 14 heeds only the last --rmgr, later ones heed all.
PROGRAM = """#!/bin/sh
[ "$1" = --version ] && echo "pg_waldump (PostgreSQL) {version}" && exit 0
wanted=
for word; do
  case $word in --rmgr=*) [ {major} = 14 ] && wanted=; wanted="$wanted ${{word#--rmgr=}}" ;; esac
done
for rmgr in Heap Heap2 Transaction XLOG Btree; do
  case " ${{wanted:-$rmgr}} " in *" $rmgr "*) echo "rmgr: $rmgr        len (rec/tot): 1/1" ;; esac
done
"""


@pytest.mark.parametrize("version", ["14.19", "15.14", "18.0"])
@pytest.mark.parametrize("rmgrs", [(), ("XLOG",), ("Transaction", "Heap", "XLOG")])
def test_the_lines_of_several_resource_managers(tmp_path: Path, version: str, rmgrs: tuple[str, ...]) -> None:
    program = tmp_path / "pg_waldump"
    program.write_text(PROGRAM.format(version=version, major=version.partition(".")[0]))
    program.chmod(0o700)
    with record_lines(program, tmp_path, timeline=1, start=1 << 20, rmgrs=rmgrs) as lines:
        found = [line.split()[1].decode() for line in lines]
    assert sorted(found) == sorted(rmgrs or ("Heap", "Heap2", "Transaction", "XLOG", "Btree"))
    assert lines.status == 0
