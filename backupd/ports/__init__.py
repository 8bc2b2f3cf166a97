"""The sockets in the wall: Writer, RestoreTarget, SnapshotProvider, ObjectStore, Clock.

A port says what it promises, whether a call may be repeated, and which error
means what.  Every concrete class passes the one contract suite of its port
(``tests/contracts``).  Callers ask for features; they never ask for a class.
"""

from __future__ import annotations

from backupd.ports.archive import (
    DeletesMany,
    ListsFolders,
    ObjectStore,
    Probe,
    ProbedStore,
    StoredObject,
    StoreFeature,
)
from backupd.ports.clock import Clock, ReportProgress
from backupd.ports.freeze import Freeze, FreezeEnd, PagesEnd, Place, Prepared
from backupd.ports.log import ClosedLog, Truncated, TruncationEvidence
from backupd.ports.pages import Extent, PageFile, PageSource
from backupd.ports.snapshots import ProviderFeature, Snapshot, SnapshotProvider, Suitability
from backupd.ports.target import LooksAround, ProcessUse, RestoreTarget, TargetFacts
from backupd.ports.writer import Writer

__all__ = [
    "Clock",
    "ClosedLog",
    "DeletesMany",
    "Extent",
    "Freeze",
    "FreezeEnd",
    "ListsFolders",
    "LooksAround",
    "ObjectStore",
    "PageFile",
    "PageSource",
    "PagesEnd",
    "Place",
    "Prepared",
    "Probe",
    "ProbedStore",
    "ProcessUse",
    "ProviderFeature",
    "ReportProgress",
    "RestoreTarget",
    "Snapshot",
    "SnapshotProvider",
    "StoreFeature",
    "StoredObject",
    "Suitability",
    "TargetFacts",
    "Truncated",
    "TruncationEvidence",
    "Writer",
]
