"""The rules of the house as functions: who may enter which room, how big rooms may be; answers are complaints."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

HOUSE = Path(__file__).parent.parent / "backupd"

FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 60

# Who may enter which room (rooms are named by their path; a room that is not here may not exist).
_VALUES = {"model", "errors"}
_HANDS = {"direct_write", "disk_room", "durable", "ports", "process", "steps"} | _VALUES
_FRONT = {"bootstrap", "runs", "decide", "journal", "policy", "archive", "process", "steps", "ports"} | _VALUES
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),
    "allocations": set(),
    "direct_write": set(),
    "disk_room": set(),
    "errors": set(),
    "known_secrets": {"model"},
    "lines": {"known_secrets", "model", "errors"},
    "steps": {"errors"},
    "digests": set(),
    "durable": {"errors", "steps"},
    "process": set(),
    "pages": set(),
    "model": {"errors"},
    "decide": _VALUES,
    "policy": {"known_secrets"} | _VALUES,  # it reads secrets, and says so
    "ports": _VALUES,
    "journal": {"process", "steps"} | _VALUES,
    "providers": _HANDS,
    "pipeline": {"allocations", "digests", "pages"} | _HANDS,
    "archive": {"digests", "pages", "pipeline"} | _HANDS,  # what it keeps went through the pipeline; never back
    "engines": _HANDS,  # what every engine needs; one engine's own room is below
    "engines/postgres": {"digests", "engines", "pages"} | _HANDS,
    "engines/sqlite": {"digests", "engines", "lines", "pages"} | _HANDS,  # lines: of the processes that replicate
    "runs": {"decide", "pipeline", "archive", "journal", "policy"} | _HANDS,  # never engines or providers
    "bootstrap": {
        "decide",
        "digests",
        "engines",
        "engines/postgres",
        "engines/sqlite",
        "journal",
        "pages",
        "pipeline",
        "policy",
        "providers",
        "runs",
    }
    | {"archive"}
    | _HANDS,  # the only room that knows concrete classes
    "service": {"durable", "known_secrets", "lines", "service/web"} | _FRONT,
    "service/metrics": _VALUES,
    "service/web": {"service", "service/metrics"} | _VALUES | {"journal", "policy"},  # asks the desk, never the house
    "demo": {"cli"} | _FRONT,  # a story told in the words of the front door, with a real writer process
    "cli": {"demo", "durable", "service", "service/metrics"} | _FRONT,  # service: to try whether its alarms are heard
}

# Libraries, and parts of Python's own, that live at few addresses: a file, or a room with a / at its end.
ADDRESSES: dict[str, tuple[str, ...]] = {
    "apprise": ("service/send.py",),
    "apscheduler": ("service/",),
    "blake3": ("digests.py",),
    "cryptography": ("pipeline/cipher.py",),
    "httpx": ("service/ping.py",),
    "boto3": ("archive/s3/",),
    "botocore": ("archive/s3/",),
    "itsdangerous": ("service/web/session.py",),
    "jinja2": ("service/web/",),
    "numpy": (
        "direct_write.py",
        "pages.py",
        "ports/pages.py",
        "pipeline/",
        "engines/",
    ),  # ports: for the type of one argument
    "prometheus_client": ("service/metrics.py",),
    "psycopg": ("engines/postgres/connect.py",),
    "pydantic": ("policy/",),
    "pydantic_core": ("policy/",),
    "pyrage": ("archive/age.py",),
    "rich": ("cli/", "demo/"),
    "starlette": ("service/web/",),
    "structlog": ("lines/chain.py",),
    "typer": ("cli/",),
    "uvicorn": ("service/web/server.py",),
    "urllib3": ("archive/s3/",),  # botocore lets its errors through
    "xxhash": ("pages.py",),
    "zstandard": ("pipeline/compress.py",),
    # of Python's own
    "sqlite3": ("journal/", "engines/sqlite/", "demo/"),
    "subprocess": ("engines/", "providers/", "policy/git_call.py", "demo/"),
}

# Pure rooms get time, dice and places as values.
PURE_ROOMS = {"model", "decide"}
IMPURE = {
    "asyncio",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "uuid",
}
CLOCK_CALLS = {"now", "today", "utcnow"}

BANNED_IN_NAMES = {"dump", "job", "jobs", "master", "slave", "util", "utils"}
BANNED_FILES = BANNED_IN_NAMES | {"base", "common", "helper", "helpers", "misc"}


def modules() -> dict[str, str]:
    """Every Python file of the house with its text, by path below ``backupd/``."""
    return {
        str(path.relative_to(HOUSE)): path.read_text(encoding="utf-8")
        for path in sorted(HOUSE.rglob("*.py"))
        if "__pycache__" not in path.parts
    }


def room_of(path: str) -> str:
    """The room that a file is in: the longest one of the table, or the first part of its path if there is none."""
    parts = path.removesuffix(".py").split("/")
    if parts == ["__init__"]:
        return ""
    for length in range(len(parts), 0, -1):
        room = "/".join(parts[:length])
        if room in MAY_IMPORT:
            return room
    return parts[0]


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, also those inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "." * node.level + (node.module or "")
        elif isinstance(node, ast.ImportFrom):
            # `from backupd import steps` enters the room steps.
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def door_complaints(path: str, text: str) -> list[str]:
    """Imports that the table of rooms or the list of addresses forbids."""
    room = room_of(path)
    if room not in MAY_IMPORT:
        return [f"{path}: the room {room} is not in the table of the house (tests/house_rules.py)"]
    complaints = []
    for line, name in imports(ast.parse(text)):
        first, _, rest = name.partition(".")
        if not first:
            complaints.append(f"{path}:{line}: imports are absolute here, not {name}")
        elif first == "backupd":
            target = _target_room(rest)
            if target not in MAY_IMPORT[room] | {room, ""}:
                complaints.append(f"{path}:{line}: {room} may not enter {target}")
        elif first in ADDRESSES:
            if not path.startswith(ADDRESSES[first]):
                complaints.append(f"{path}:{line}: {first} lives in {', '.join(ADDRESSES[first])} only")
        elif first not in sys.stdlib_module_names:
            complaints.append(f"{path}:{line}: {first} has no address in tests/house_rules.py")
    return complaints


def _target_room(dotted: str) -> str:
    parts = dotted.split(".")
    # What is no module of the house is a name inside the package before it.
    while parts and not _is_module(parts):
        parts.pop()
    return room_of("/".join(parts) + ".py") if parts else ""


def _is_module(parts: list[str]) -> bool:
    place = HOUSE.joinpath(*parts)
    return place.with_suffix(".py").is_file() or place.is_dir() or "/".join(parts) in MAY_IMPORT


def purity_complaints(path: str, text: str) -> list[str]:
    """Clocks, dice, disks and processes in rooms that only judge."""
    if room_of(path) not in PURE_ROOMS:
        return []
    tree = ast.parse(text)
    complaints = [
        f"{path}:{line}: {room_of(path)} is pure and may not import {name}"
        for line, name in imports(tree)
        if name.partition(".")[0] in IMPURE
    ]
    complaints.extend(
        f"{path}:{node.lineno}: {room_of(path)} is pure; the time comes in as a value"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCK_CALLS
    )
    return complaints


def docstring_complaints(path: str, text: str) -> list[str]:
    """A file that does not begin with one sentence about what it is."""
    first = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    if not re.fullmatch(r".{10,}[.:?]", first):
        return [f"{path}: the first line of the file's docstring is not a sentence: {first!r}"]
    return []


def assert_complaints(path: str, text: str) -> list[str]:
    """``python -O`` takes asserts away, so nothing here may lean on one."""
    return [
        f"{path}:{node.lineno}: raise instead of assert"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Assert)
    ]


def name_complaints(path: str, text: str) -> list[str]:
    """Words that we do not use, in names that the house gives."""
    words = set(re.split(r"[/_.]", path.removesuffix(".py")))
    complaints = [f"{path}: a file is not called {word}" for word in sorted(words & BANNED_FILES)]
    for node in ast.walk(ast.parse(text)):
        for name in _given_names(node):
            banned = set(re.findall(r"[a-z]+|[A-Z][a-z]*", name)) | set(name.lower().split("_"))
            complaints.extend(
                f"{path}:{getattr(node, 'lineno', 0)}: we do not say {word} ({name})"
                for word in sorted({part.lower() for part in banned} & BANNED_IN_NAMES)
            )
    return complaints


def _given_names(node: ast.AST) -> list[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.arg():
            return [node.arg]
        case ast.Name(ctx=ast.Store()):
            return [node.id]
        case ast.Attribute(ctx=ast.Store()):
            return [node.attr]
    return []


def sizes(path: str, text: str) -> dict[str, int]:
    """Lines of the file (under its path) and of each function (under ``path::name``)."""
    found = {path: len(text.splitlines())}
    for parent in ast.walk(ast.parse(text)):
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inside = f"{parent.name}." if isinstance(parent, ast.ClassDef) else ""
                found[f"{path}::{inside}{node.name}"] = (node.end_lineno or node.lineno) - node.lineno + 1
    return found


def size_complaints(found: dict[str, int], exceptions: dict[str, int]) -> list[str]:
    """What is too big and has no exception, and exceptions that have become larger than what they excuse."""
    complaints = []
    for name, lines in found.items():
        limit = FUNCTION_LINES_MAX if "::" in name else FILE_LINES_MAX
        allowed = max(limit, exceptions.get(name, 0))
        if lines > allowed:
            complaints.append(f"{name} has {lines} lines, more than {allowed}")
    for name, allowed in exceptions.items():
        lines = found.get(name, 0)
        limit = FUNCTION_LINES_MAX if "::" in name else FILE_LINES_MAX
        if lines <= limit:
            complaints.append(f"{name} needs no exception any more; take its line out")
        elif lines < allowed:
            complaints.append(f"{name} has {lines} lines; lower its exception from {allowed}, it may only shrink")
    return complaints
