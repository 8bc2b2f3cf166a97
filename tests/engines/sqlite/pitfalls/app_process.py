"""An application that does one thing at a time when told to: plain sqlite3 in a process of its own, driven by lines."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

CONNECTIONS: dict[str, sqlite3.Connection] = {}


def obey(order: dict[str, Any]) -> Any:
    """Carry out one order on the connection that it names."""
    name = order.get("name", "main")
    what = order["do"]
    if what == "open":
        made = CONNECTIONS[name] = sqlite3.connect(order["path"], isolation_level=None, timeout=order["timeout"])
        for pragma in order["pragmas"]:
            made.execute(f"PRAGMA {pragma}").fetchall()
        return None
    if what == "execute":
        return CONNECTIONS[name].execute(order["sql"], order["values"]).fetchall()
    if what == "many":
        CONNECTIONS[name].executemany(order["sql"], order["rows"])
        return None
    if what == "bytes":
        return Path(order["to"]).write_bytes(CONNECTIONS[name].serialize())
    if what == "close":
        return CONNECTIONS.pop(name).close()
    raise ValueError(what)


for line in sys.stdin:
    try:
        answer = {"ok": obey(json.loads(line))}
    except sqlite3.Error as error:
        answer = {"failed": type(error).__name__, "because": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
