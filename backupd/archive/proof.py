"""Read-back proof: what was stored is read from the medium again while the next object is being made."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

from backupd.archive.objects import check_stored
from backupd.ports import ObjectStore, StoredObject
from backupd.steps import step


class Prover:
    """Re-reads objects in one thread of its own."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prove")
        self._pending: list[Future[int]] = []
        self.proven_bytes = 0

    def add(self, stored: StoredObject) -> None:
        """Prove this object soon."""
        self._pending.append(self._pool.submit(self._prove, stored))

    def confirmed(self, stored: StoredObject) -> None:
        """The store itself has compared what arrived with our SHA-256: that is as good, and costs nothing."""
        self.proven_bytes += stored.size_bytes

    def finish(self, on_bytes: Callable[[int], None] | None = None) -> int:
        """Wait until all are proven; answers with the bytes read.

        Raises:
            DamageFound: an object is not what was stored.
            RuntimeError: it was closed before; the caller has a bug.
        """
        while self._pending:
            try:
                self.proven_bytes += self._pending[0].result()
            except CancelledError:
                raise RuntimeError("the proof was given up before all was proven") from None
            self._pending.pop(0)
            if on_bytes:
                on_bytes(self.proven_bytes)
        return self.proven_bytes

    def close(self) -> None:
        """End the thread; what is not proven yet stays so."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _prove(self, stored: StoredObject) -> int:
        step("archive.prove")
        self._store.forget_cached(stored.name)
        return check_stored(self._store, stored)
