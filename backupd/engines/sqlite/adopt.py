"""What comes with a seed: the log between what the passive holds and the seed, so that no increment finds a gap."""

from __future__ import annotations

import logging

from backupd.engines.sqlite.inspect import ChainEnd, Inspector
from backupd.engines.sqlite.log_source import LogSource
from backupd.engines.sqlite.logdir import HistoryLogs, LogDir
from backupd.engines.sqlite.logfile import read_control
from backupd.engines.sqlite.logheader import LogHeader, LogKindCode
from backupd.engines.sqlite.marker import Marker
from backupd.errors import BackupdError

LOG = logging.getLogger("replay")


def receive_seed_log(inspector: Inspector, source: LogSource, seed: LogHeader) -> None:
    """Take in the seed's own log, and before it every log of its history that the active still holds.

    The passive's file does not need them, but the next increment does.  A log that
    cannot be had leaves a gap, which the next backup notices and answers with a full.

    Raises:
        NotHealthy, DamageFound, NotFound: the seed's own log cannot be taken in.
    """
    try:
        for number in range(_first_wanted(inspector, source, seed), seed.number):
            inspector.receive(seed.history, number, source.fetch)
    except BackupdError as error:
        LOG.warning("log before the seed is missing here: %s", error)
    inspector.receive(seed.history, seed.number, source.fetch, seed=True)


def _first_wanted(inspector: Inspector, source: LogSource, seed: LogHeader) -> int:
    end = inspector.end
    if end is not None and end.history == seed.history:
        return end.number + 1
    oldest = source.oldest(seed.history)
    if oldest is None or oldest >= seed.number or seed.epoch < (end.epoch if end else 0):
        return seed.number
    inspector.end = ChainEnd.before(source.header(seed.history, oldest))
    return oldest


def stamps_up_to(marker: Marker, logs: LogDir, seed: LogHeader) -> Marker:
    """The marker with the stamps of the control records that the seed jumps over."""
    held: HistoryLogs = logs.history(seed.history)
    first = marker.number + 1 if marker.history == seed.history else 0
    for number in held.numbers():
        if not first <= number < seed.number:
            continue
        if held.header(number).kind is LogKindCode.CONTROL:
            stamp = read_control(held.path_of(number)).get("stamp")
            if isinstance(stamp, dict):
                marker = marker.with_seen(stamp)
    return marker
