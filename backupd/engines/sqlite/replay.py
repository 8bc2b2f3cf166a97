"""Replay: applies inspected log files to the passive's file, one after the other, and survives a crash at any step.

For each log: the marker says *applying* (durable), the pages are written, the
file is synced, the rolling checksum must be the one that the log promises, the
marker says *replayed* (durable).  After a crash the log that was in hand is
applied again from its start (reference/sqlite.md, P8).
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from backupd.durable import sync_directory
from backupd.engines.sqlite.adopt import stamps_up_to
from backupd.engines.sqlite.apply import PartialEnd, apply_partially, write_log
from backupd.engines.sqlite.logdir import LogDir
from backupd.engines.sqlite.logfile import read_control, read_digest, read_header
from backupd.engines.sqlite.logheader import LogHeader, LogKindCode, unwritable
from backupd.engines.sqlite.marker import Applying, Identity, Marker, read_marker, write_marker
from backupd.engines.sqlite.pagemap import PageMap, load_map, roll_forward
from backupd.engines.sqlite.passive_file import refuse_foreign
from backupd.errors import DamageFound, NotFound, NotHealthy
from backupd.model.pair import CopyState
from backupd.steps import step

__all__ = ["Marker", "PartialEnd", "Replay", "apply_partially", "read_marker"]

# After so many logs the map is saved, so that a start need not hash the whole file.
MAP_EVERY_LOGS = 256
_SEED_NEXT = "backupctl copy seed DATABASE"


class Replay:
    """The passive's file, its marker and its map.  Used by one thread only.

    Args:
        db_path: the passive's database file; written here only, opened by nobody else.
        state_dir: the copy's directory (``replay.json``, ``replay.map``, ``log/``).
    """

    def __init__(self, db_path: Path, state_dir: Path) -> None:
        self.db_path = db_path
        self.logs = LogDir(state_dir / "log")
        self._marker_path = state_dir / "replay.json"
        self._map_path = state_dir / "replay.map"
        self._since_save = 0
        self.map: PageMap | None = None
        self.marker = read_marker(self._marker_path) or Marker()

    # --- start ---------------------------------------------------------------

    def open(self) -> Marker:
        """Finish what a crash has left, and make the map ready.

        Whatever is found wrong becomes the marker's state, not an exception; only
        a disk that refuses raises NotHealthy.
        """
        self.map = None
        self.marker = read_marker(self._marker_path) or Marker()
        try:
            if self.marker.applying is not None:
                self._redo(self.marker.applying)
            elif self.marker.state is CopyState.HEALTHY:
                self._check_identity()
                self.map = self._map_of_marker()
        except (DamageFound, NotFound) as error:
            self.mark(CopyState.MUST_SEED, f"{error.problem}: {error.because}")
        except OSError as error:
            raise unwritable(self.db_path, error) from None
        return self.marker

    def _redo(self, applying: Applying) -> None:
        header = self.logs.history(applying.history).header(applying.number)
        path = self.logs.history(applying.history).path_of(applying.number)
        if applying.seed:
            self._place_seed(Path(applying.seed), header, path, None)
            return
        # The file is between two states, so its map is what it holds now; after
        # the whole log every page that differs has been written again.
        self._apply_pages(header, path, PageMap.of_file(self.db_path, header.page_bytes))

    def _map_of_marker(self) -> PageMap:
        """The map that the marker promises: saved, or rolled forward, or from the file itself."""
        marker = self.marker
        try:
            saved = load_map(self._map_path)
            if saved.history == marker.history and saved.map.page_bytes == marker.page_bytes:
                for number in range(saved.number + 1, marker.number + 1):
                    logs = self.logs.history(marker.history)
                    roll_forward(saved.map, logs.path_of(number), logs.header(number))
                if (saved.map.checksum, saved.map.pages) == (marker.checksum, marker.pages):
                    return saved.map
        except (NotFound, DamageFound):
            pass
        found = PageMap.of_file(self.db_path, marker.page_bytes)
        if (found.checksum, found.pages) != (marker.checksum, marker.pages):
            raise DamageFound(
                f"{self.db_path} is damaged",
                because=f"the checksum of its pages is not the one after log {marker.number}",
                next_step=_SEED_NEXT,
            )
        return found

    # --- judging -------------------------------------------------------------

    def mark(self, state: CopyState, because: str) -> None:
        """Say durably that the copy is suspect, failed or must be seeded; replay stops. Raises NotHealthy."""
        applying = None if state is CopyState.MUST_SEED else self.marker.applying  # a seed makes a redo pointless
        self._set(replace(self.marker, state=state, because=because, applying=applying))

    def _set(self, marker: Marker) -> None:
        """Durable first, then believed."""
        write_marker(self._marker_path, marker)
        self.marker = marker

    @property
    def ready(self) -> bool:
        """Whether the next log may be applied."""
        return self.marker.state is CopyState.HEALTHY and self.map is not None

    def _check_identity(self) -> bool:
        """Whether the file is as replay left it; if not, the copy becomes suspect."""
        try:
            found = os.stat(self.db_path)
        except FileNotFoundError:
            self.mark(CopyState.SUSPECT, f"{self.db_path} was removed by somebody else")
            return False
        if Identity(found.st_ino, found.st_size, found.st_mtime_ns) != self.marker.identity:
            self.mark(CopyState.SUSPECT, f"{self.db_path} was changed by somebody else")
            return False
        return True

    def check_untouched(self) -> bool:
        """Whether the copy is healthy and nobody else has changed the file (else it becomes suspect)."""
        return self.marker.state is CopyState.HEALTHY and self._check_identity()

    # --- applying ------------------------------------------------------------

    def apply(self, path: Path) -> Marker:
        """Apply one inspected log file; a log that was applied before changes nothing.

        Answers with the marker afterwards; its state says when the copy is not healthy any more.

        Raises:
            NotHealthy: the log does not follow, the copy is not ready, or the disk
                refuses (then the same call may be repeated after ``open``).
        """
        header = read_header(path)
        marker = self.marker
        if header.history == marker.history and header.number <= marker.number:
            return marker
        if self.map is None or not self.ready:
            raise NotHealthy(
                f"cannot replay log {header.number}",
                because=f"the passive is {marker.state}: {marker.because}",
                next_step=_SEED_NEXT,
            )
        self._check_follows(header)
        if not self._check_identity():
            return self.marker
        if header.kind.has_pages:
            self._set(replace(marker, applying=Applying(header.history, header.number)))
            page_map, self.map = self.map, None  # not ready until the whole log is in
            self._apply_pages(header, path, page_map)
        elif (header.checksum_after, header.pages_after) != (marker.checksum, marker.pages):
            self.mark(CopyState.MUST_SEED, f"log {header.number} says that the passive was made anew from a seed")
        else:
            stamps = marker.stamps
            if header.kind is LogKindCode.CONTROL:
                stamp = read_control(path).get("stamp")
                stamps = marker.with_stamp(stamp) if isinstance(stamp, dict) else stamps
            self._replayed(header, path, replace(marker, stamps=stamps))
        return self.marker

    def _check_follows(self, header: LogHeader) -> None:
        marker = self.marker
        same = header.history == marker.history
        stands = (marker.offset, marker.number) if same else (marker.history, marker.offset)
        goes_on = (header.start_offset, header.number - 1) if same else (header.parent_history, header.parent_offset)
        if goes_on != stands or header.checksum_before != marker.checksum:
            raise NotHealthy(
                f"log {header.number} of history {header.history} cannot be replayed",
                because=f"it does not go on from log {marker.number} of {marker.history}, where the passive stands",
                next_step=_SEED_NEXT,
            )

    def _apply_pages(self, header: LogHeader, path: Path, page_map: PageMap) -> None:
        """From here on a crash is redone; a failed disk leaves ``applying`` set, and ``open`` goes on."""
        try:
            log_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                db_fd = os.open(self.db_path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    changes = write_log(db_fd, log_fd, header, header.entries, header.pages_after)
                    step("replay.fsync")
                    os.fsync(db_fd)
                finally:
                    os.close(db_fd)
            finally:
                os.close(log_fd)
        except OSError as error:
            raise unwritable(self.db_path, error) from None
        checksum = page_map.apply(changes, header.pages_after)
        if checksum != header.checksum_after:
            self.mark(
                CopyState.MUST_SEED,
                f"after log {header.number} the checksum of all pages is {checksum:016x} "
                f"and the active's was {header.checksum_after:016x}",
            )
            return
        self.map = page_map
        self._replayed(header, path, self.marker)

    def _replayed(self, header: LogHeader, path: Path, marker: Marker) -> None:
        found = os.stat(self.db_path)
        suspect = marker.state is CopyState.SUSPECT  # stays so after a redo; only a seed ends it
        replayed = replace(
            marker,
            state=marker.state if suspect else CopyState.HEALTHY,
            because=marker.because if suspect else "",
            history=header.history,
            number=header.number,
            offset=header.end_offset,
            digest=read_digest(path).hex(),
            checksum=header.checksum_after,
            pages=header.pages_after,
            page_bytes=header.page_bytes,
            last_commit_us=header.last_commit_us or marker.last_commit_us,
            applying=None,
            identity=Identity(found.st_ino, found.st_size, found.st_mtime_ns),
        )
        self._set(replayed)
        self._since_save += 1
        if self._since_save >= MAP_EVERY_LOGS:
            self.save_map()

    # --- seed and map ----------------------------------------------------------

    def adopt_seed(self, seed_path: Path, log_path: Path) -> Marker:
        """Put a finished seed file in the passive's place; ``log_path`` is its inspected SEED log.

        Raises:
            DamageFound: the seed is not what the log promises; nothing has changed.
            NotHealthy: the disk refuses.
        """
        header = read_header(log_path)
        self.map = None
        seed_map = self._check_seed(seed_path, header)
        applying = Applying(header.history, header.number, str(seed_path))
        marker = replace(stamps_up_to(self.marker, self.logs, header), state=CopyState.SEEDING, applying=applying)
        self._set(replace(marker, because="a seed is being put in place"))
        self._place_seed(seed_path, header, log_path, seed_map)
        return self.marker

    def _check_seed(self, path: Path, header: LogHeader) -> PageMap:
        try:
            found = PageMap.of_file(path, header.page_bytes)
            size = os.stat(path).st_size
        except OSError as error:
            raise unwritable(path, error) from None
        if (found.checksum, size) != (header.checksum_after, header.pages_after * header.page_bytes):
            raise DamageFound(
                f"the seed {path} is not what the active sent",
                because="the checksum of its pages or its size differs from the seed record",
                next_step=_SEED_NEXT,
            )
        return found

    def _place_seed(self, seed_path: Path, header: LogHeader, log_path: Path, seed_map: PageMap | None) -> None:
        """Repeatable: the seed is still under its own name, or in place already."""
        try:
            if seed_path.exists():
                seed_map = seed_map or self._check_seed(seed_path, header)
                refuse_foreign(self.db_path, self.marker)
                step("replay.seed_rename")
                os.rename(seed_path, self.db_path)
            else:
                seed_map = self._check_seed(self.db_path, header)
            step("replay.seed_fsync_directory")
            sync_directory(self.db_path.parent)
        except OSError as error:
            raise unwritable(self.db_path, error) from None
        self.map = seed_map
        self._replayed(header, log_path, self.marker)
        self.save_map()

    def save_map(self, path: Path | None = None, *, durable: bool = True) -> Path:
        """Save the map as of the replayed log, here or to ``path``; answers where. Raises NotHealthy."""
        if self.map is None:
            raise NotHealthy(
                "there is no page map to save", because=f"the passive is {self.marker.state}", next_step=_SEED_NEXT
            )
        target = path or self._map_path
        self.map.save(target, self.marker.history, self.marker.number, durable=durable)
        if path is None:
            self._since_save = 0
        return target
