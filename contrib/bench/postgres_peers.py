"""Prints backupd as a tool for a script that times backup tools on one PostgreSQL pair: an object of NAME -> commands.

  python contrib/bench/postgres_peers.py [--pgbackrest PATH] > tools.json

``backupd-express-zstdN`` takes an express full where the others take an incremental; with a pgBackRest of 2.46
or newer its block incremental is put beside it.

Placeholders in braces are the script's: {work} its folder, {repo} the archive, {primary} and {standby} data
directories, {pport} and {sport} ports, {venv} a virtual environment that has backupd, {dest} an empty folder.
"""

import argparse
import json

POLICY = """database = "pair"
engine = "postgres"
archive = "file://{repo}/archive"
[copies.a]
conninfo = "host=127.0.0.1 port={pport} user=postgres dbname=postgres"
data_directory = "{primary}"
[copies.b]
conninfo = "host=127.0.0.1 port={sport} user=postgres dbname=postgres"
data_directory = "{standby}"
[archive_options]
compression_level = LEVEL
[retention]
keep_days = 7
"""


SERVICE = "[service]\\n"


def tool(level: int) -> dict[str, object]:
    """The commands of backupd at one zstd level."""
    ctl = "{venv}/bin/python -m backupd.cli.main --config {repo}/backupd.toml"
    policy = POLICY.replace("LEVEL", str(level))
    lines = (
        "mkdir -p {repo}/policies",
        f"printf '{SERVICE}' > {{repo}}/backupd.toml",
        "cat > {repo}/policies/pair.toml",
    )
    return {
        "repo": f"{{work}}/repo-backupd-{level}",
        "data": "{repo}/archive",
        "files": {},
        "prepare": " && ".join(lines) + f" <<'END'\n{policy}END",
        "archive_command": "true",
        "full": f"{ctl} backup pair --type full",
        "incr": f"{ctl} backup pair --type incremental",
        "diff": f"{ctl} backup pair --type differential",
        # With the old server's settings in place again, so that the script can start it as it does the others'.
        "restore": f"rmdir {{dest}} 2>/dev/null; {ctl} restore pair --target {{dest}} --yes && cd {{dest}} && "
        "for each in *.restored; do mv $each ${each%.restored}; done",
    }


def express(level: int) -> dict[str, object]:
    """The same with express fulls for what changed, each on the one before it."""
    made = tool(level)
    made["repo"] = f"{{work}}/repo-express-{level}"
    made["incr"] = str(made["incr"]).replace("incremental", "express")
    del made["diff"]
    return made


BLOCK = """[global]
repo1-path={repo}
repo1-bundle=y
repo1-block=y
log-path={work}/log
lock-path={work}/lock-block
start-fast=y
process-max=2
compress-type=zst
compress-level=LEVEL
checksum-page=y
expire-auto=n
log-level-console=detail
log-level-file=off
"""
PRIMARY = "pg1-path={primary}\npg1-port={pport}\npg1-socket-path={sock}\npg1-user=postgres\n"
STANDBY = "pg2-path={standby}\npg2-port={sport}\npg2-socket-path={sock}\npg2-user=postgres\n"


def block_incremental(program: str, level: int) -> dict[str, object]:
    """pgBackRest with its block incremental: hashes of blocks in a map, only changed blocks stored."""
    options = BLOCK.replace("LEVEL", str(level))
    call = f"{program} --stanza=pair --config={{work}}/block-{level}"
    return {
        "repo": f"{{work}}/repo-block-{level}",
        "data": "{repo}/backup",
        "files": {
            f"{{work}}/block-{level}.conf": f"{options}backup-standby=y\n[pair]\n{PRIMARY}{STANDBY}",
            f"{{work}}/block-{level}-1.conf": f"{options}[pair]\n{PRIMARY}",
        },
        "prepare": f"mkdir -p {{work}}/lock-block {{work}}/log && {call}.conf stanza-create",
        "archive_command": f"{call}-1.conf archive-push %p",
        "full": f"{call}.conf --type=full backup",
        "incr": f"{call}.conf --type=incr backup",
        "restore": f"{call}-1.conf --pg1-path={{dest}} --log-level-console=info restore",
        "restore_delta": f"{call}-1.conf --pg1-path={{dest}} --delta --log-level-console=info restore",
    }


def main() -> None:
    """Print the tools."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--pgbackrest", help="a pgBackRest that knows repo-block")
    program = words.parse_args().pgbackrest
    tools = {f"backupd-zstd{level}": tool(level) for level in (1, 3)}
    tools |= {f"backupd-express-zstd{level}": express(level) for level in (1, 3)}
    if program:
        tools |= {f"pgbackrest-block-zst{level}": block_incremental(program, level) for level in (1, 3)}
    print(json.dumps(tools, indent=1))


if __name__ == "__main__":
    main()
