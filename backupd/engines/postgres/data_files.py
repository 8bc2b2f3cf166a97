"""Which files of a data directory and its tablespaces belong to a backup, and what each of them is.

Left out are what a server makes anew (reference/postgres.md, section 5.8: the list
of ``basebackup.c``), what belongs to one node and not to the cluster (its
``standby.signal``, its own log), temporary relations, and of unlogged relations
all but the init fork.  ``global/pg_control`` is a source of its own, read last.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backupd.engines.postgres.volume_bounds import NEVER_STORED, OURS
from backupd.engines.postgres.volume_table import TABLESPACES, Entry, Kind, Tablespace
from backupd.errors import ConfigInvalid, NotHealthy, Refused
from backupd.ports import Place

CONTROL_PATH = "global/pg_control"
SEGMENT_BLOCKS = 131072  # RELSEG_SIZE: pages of a relation's segment file, 1 GiB

# Directories that are kept, and what lies below them is not (pg_wal's two only because servers look for them).
_EMPTIED = frozenset(
    {"pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_subtrans", "pg_stat_tmp"}
)
_KEPT_BELOW = {"pg_wal": ("archive_status", "summaries")}
SERVER_LOGS = frozenset({"log", "pg_log"})

_TEMPORARY = ("pgsql_tmp", "pg_internal.init")  # beginnings of names, anywhere

_RELATION_DIRECTORY = re.compile(r"global|base/\d+|pg_tblspc/\d+/PG_[^/]+/\d+")
_RELATION = re.compile(r"(\d+)(?:_(fsm|vm|init))?(?:\.(\d+))?")
_TEMPORARY_RELATION = re.compile(r"t\d+_\d+(?:_(?:fsm|vm|init))?(?:\.\d+)?")
_PAGED_DIRECTORIES = frozenset({"pg_xact", "pg_commit_ts", "pg_multixact/members", "pg_multixact/offsets"})


@dataclass(frozen=True, slots=True)
class ClusterFiles:
    """The files of one cluster as they were found: entries by path, without their places in a volume.

    ``notes`` are sentences about what a person may miss in the backup.
    """

    data_directory: Path
    entries: tuple[Entry, ...]
    tablespaces: tuple[Tablespace, ...]
    notes: tuple[str, ...]

    def places(self) -> tuple[Place, ...]:
        """What snapshots are taken of: the data directory first, then each tablespace."""
        names: dict[str, list[str]] = {root: [] for root in self._roots()}
        for path in (CONTROL_PATH, *(entry.path for entry in self.entries if entry.kind != Kind.DIRECTORY)):
            root = root_of(path, names)
            names[root].append(path.removeprefix(f"{root}/") if root else path)
        return tuple(Place(self._roots()[root], tuple(below)) for root, below in names.items())

    def roots(self, directories: Sequence[Path] | None = None) -> dict[str, Path]:
        """Where the files below each place lie: in the snapshots of ``places()``, in its order, or where they live."""
        here = self._roots()
        return dict(zip(here, directories, strict=True)) if directories is not None else here

    def _roots(self) -> dict[str, Path]:
        found = {"": self.data_directory}
        return found | {f"{TABLESPACES}/{it.oid}": Path(it.location) for it in self.tablespaces}


def root_of(path: str, roots: Mapping[str, object]) -> str:
    """Which of ``roots`` a path is below: ``pg_tblspc/<oid>`` or the data directory, which is empty text."""
    if path.startswith(TABLESPACES):
        root = "/".join(path.split("/", 2)[:2])
        return root if root in roots else ""
    return ""


def real_path(path: str, roots: Mapping[str, Path]) -> Path:
    """Where the file of that path is, by the roots of ``ClusterFiles.roots``."""
    root = root_of(path, roots)
    return roots[root] / path.removeprefix(f"{root}/") if root else roots[""] / path


def find_files(
    data_directory: Path, *, emptied: Collection[str] = SERVER_LOGS, segment_blocks: int = SEGMENT_BLOCKS
) -> ClusterFiles:
    """Walk a data directory and its tablespaces, which may be in use.

    ``emptied`` are more directories (relative) whose contents stay out: the server's own log.

    Raises:
        ConfigInvalid: it is not a data directory.
        NotHealthy: a file cannot be read, or a tablespace is not there.
        Refused: a link leads to where no snapshot would look.
    """
    walk = _Walk(data_directory, _EMPTIED | frozenset(emptied), segment_blocks)
    return walk.run()


def snapshot_names(data_directory: Path) -> tuple[Place, ...]:
    """What snapshots a frozen cluster needs; see ``find_files`` for the errors."""
    return find_files(data_directory).places()


class _Walk:
    """One walk; a path that vanishes meanwhile was not there."""

    def __init__(self, data_directory: Path, emptied: frozenset[str], segment_blocks: int) -> None:
        self._top = data_directory
        self._emptied = emptied
        self._segment_blocks = segment_blocks
        self._readable_all = os.geteuid() == 0
        self._notes: list[str] = []
        self._tablespaces: list[Tablespace] = []

    def run(self) -> ClusterFiles:
        catalog = _catalog_directory(self._top)
        entries = [Entry(".", Kind.DIRECTORY, mode=_mode(os.stat(self._top)))]
        entries.extend(self._below("", os.fspath(self._top)))
        entries.extend(self._all_tablespaces(catalog))
        entries.sort(key=lambda entry: entry.path)
        return ClusterFiles(self._top, tuple(entries), tuple(self._tablespaces), tuple(self._notes))

    def _below(self, path: str, real: str) -> Iterator[Entry]:
        """All entries below the directory ``path`` (relative) that is at ``real``."""
        found = _listed(real)
        relations = _RELATION_DIRECTORY.fullmatch(path) is not None
        unlogged = {it.name.partition("_")[0] for it in found if it.name.endswith("_init")} if relations else set()
        prefix = f"{path}/" if path else ""
        for it in found:
            below = prefix + it.name
            if it.name.startswith(_TEMPORARY) or it.name in OURS or (not path and it.name in NEVER_STORED):
                continue
            try:
                if it.is_symlink():
                    yield from self._link(below, it)
                elif it.is_dir(follow_symlinks=False):
                    yield from self._directory(below, it.path)
                elif it.is_file(follow_symlinks=False) and not (relations and _passing(it.name, unlogged)):
                    yield from self._file(below, it, relations)
            except FileNotFoundError:
                continue

    def _directory(self, path: str, real: str) -> Iterator[Entry]:
        yield Entry(path, Kind.DIRECTORY, mode=_mode(os.stat(real)))
        if path in self._emptied:
            for name in _KEPT_BELOW.get(path, ()):
                with suppress(FileNotFoundError):
                    yield Entry(f"{path}/{name}", Kind.DIRECTORY, mode=_mode(os.stat(f"{real}/{name}")))
        elif path != TABLESPACES:
            yield from self._below(path, real)

    def _file(self, path: str, it: os.DirEntry[str], relations: bool) -> Iterator[Entry]:
        if path == CONTROL_PATH:
            return
        facts = it.stat(follow_symlinks=False)
        if not self._readable_all and not os.access(it.path, os.R_OK, effective_ids=True):
            raise unreadable(Path(it.path), "permission denied")
        relation = _RELATION.fullmatch(it.name) if relations else None
        if relation is not None:
            block = int(relation[3] or 0) * self._segment_blocks
            yield Entry(path, Kind.RELATION, facts.st_size, _mode(facts), first_block=block)
        else:
            paged = path.rpartition("/")[0] in _PAGED_DIRECTORIES
            yield Entry(path, Kind.PAGED if paged else Kind.PLAIN, facts.st_size, _mode(facts))

    def _link(self, path: str, it: os.DirEntry[str]) -> Iterator[Entry]:
        if path in self._emptied and it.is_dir():
            yield from self._directory(path, it.path)
        elif it.is_dir():
            raise Refused(
                f"{it.path} is a link to a directory",
                because="only tablespaces and pg_wal may lie outside of a data directory: no snapshot looks elsewhere",
                next_step="move the directory back into the data directory",
            )
        else:
            self._notes.append(f"{path} is a link to {os.readlink(it.path)}, which is not in the backup")

    def _all_tablespaces(self, catalog: str) -> Iterator[Entry]:
        for it in sorted(_listed(os.fspath(self._top / TABLESPACES)), key=lambda it: it.name):
            if not it.name.isdecimal():
                continue
            path = f"{TABLESPACES}/{it.name}"
            location = Path(it.path)
            if it.is_symlink():
                try:
                    location = Path(os.readlink(it.path))
                except FileNotFoundError:
                    continue
                self._check_location(Path(it.path), location)
                self._tablespaces.append(Tablespace(int(it.name), str(location)))
            inner = location / catalog
            try:
                outer, mode = _mode(os.stat(location)), _mode(os.stat(inner))
            except OSError as error:
                if not os.path.lexists(it.path):
                    self._tablespaces = [known for known in self._tablespaces if known.oid != int(it.name)]
                    continue  # it was removed just now
                raise unreadable(inner, error.strerror or str(error)) from error
            yield Entry(path, Kind.DIRECTORY, mode=outer)
            yield Entry(f"{path}/{catalog}", Kind.DIRECTORY, mode=mode)
            yield from self._below(f"{path}/{catalog}", os.fspath(inner))

    def _check_location(self, link: Path, location: Path) -> None:
        top = self._top.resolve()
        if not location.is_absolute() or location.is_symlink():
            because = f"it leads to {location}, which is " + (
                "a link too" if location.is_absolute() else "not absolute"
            )
        elif top in (location.resolve(), *location.resolve().parents):
            because = f"it leads to {location}, which is inside of the data directory"
        else:
            return
        raise Refused(
            f"the tablespace {link} is not one that can be backed up",
            because=because,
            next_step="let the link lead straight to a directory outside of the data directory",
        )


def _passing(name: str, unlogged: set[str]) -> bool:
    """Whether a file of a relation's directory is temporary, or the unlogged content of a relation."""
    relation = _RELATION.fullmatch(name)
    if relation is None:
        return _TEMPORARY_RELATION.fullmatch(name) is not None
    return relation[1] in unlogged and relation[2] != "init"


def _listed(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(Path(directory), error.strerror or str(error)) from error


def _catalog_directory(data_directory: Path) -> str:
    """The name that this version's part of every tablespace has: ``PG_15_202209061``."""
    try:
        major = (data_directory / "PG_VERSION").read_text(encoding="ascii").strip()
        with (data_directory / CONTROL_PATH).open("rb") as file:
            # The first fields of ControlFileData: system_identifier, pg_control_version, catalog_version_no.
            catalog = struct.unpack("=QII", file.read(16))[2]
    except PermissionError as error:
        raise unreadable(Path(error.filename), "permission denied") from error
    except (OSError, ValueError, struct.error) as error:
        raise ConfigInvalid(
            f"{data_directory} is not a PostgreSQL data directory",
            because=f"PG_VERSION or {CONTROL_PATH} cannot be read: {error}",
            next_step="correct data_directory in the policy: SHOW data_directory tells it",
        ) from error
    return f"PG_{major}_{catalog}"


def unreadable(path: Path, because: str) -> NotHealthy:
    """The error for a file or directory of the cluster that cannot be read, with the owner who could."""
    owner = ""
    with suppress(OSError, KeyError):
        owner = pwd.getpwuid(path.lstat().st_uid if os.path.lexists(path) else path.parent.stat().st_uid).pw_name
    return NotHealthy(
        f"cannot read {path}",
        because=f"{because}; backupd runs as {_own_name()}",
        next_step=f"run backupd as {owner}, who owns it, or as root"
        if owner
        else "run backupd as its owner or as root",
    )


def _own_name() -> str:
    with suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return str(os.geteuid())


def _mode(facts: os.stat_result) -> int:
    return stat.S_IMODE(facts.st_mode) & 0o777
