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
from backupd.ports.commits import CommitFinder, Deed, FoundCommit, TableChange
from backupd.ports.freeze import Freeze, FreezeEnd, PagesEnd, Place, Prepared
from backupd.ports.log import ClosedLog, Truncated, TruncationEvidence
from backupd.ports.pages import Extent, PageFile, PageSource
from backupd.ports.scratch import EngineLook, OpenedScratch, ScratchTarget
from backupd.ports.snapshots import ProviderFeature, Snapshot, SnapshotProvider, Suitability
from backupd.ports.target import LooksAround, ProcessUse, RestoreTarget, ReusesLive, TargetFacts
from backupd.ports.writer import Writer

__all__ = [
    "Clock",
    "ClosedLog",
    "CommitFinder",
    "Deed",
    "DeletesMany",
    "EngineLook",
    "Extent",
    "FoundCommit",
    "Freeze",
    "FreezeEnd",
    "ListsFolders",
    "LooksAround",
    "ObjectStore",
    "OpenedScratch",
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
    "ReusesLive",
    "ScratchTarget",
    "Snapshot",
    "SnapshotProvider",
    "StoreFeature",
    "StoredObject",
    "Suitability",
    "TableChange",
    "TargetFacts",
    "Truncated",
    "TruncationEvidence",
    "Writer",
]
