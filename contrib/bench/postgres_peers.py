"""Prints backupd as a tool for a script that times backup tools on one PostgreSQL pair: an object of NAME -> commands.

  python contrib/bench/postgres_peers.py > tools.json

Placeholders in braces are the script's: {work} its folder, {repo} the archive, {primary} and {standby} data
directories, {pport} and {sport} ports, {venv} a virtual environment that has backupd, {dest} an empty folder.
"""

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


if __name__ == "__main__":
    print(json.dumps({f"backupd-zstd{level}": tool(level) for level in (1, 3)}, indent=1))
