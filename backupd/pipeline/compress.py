"""zstd's only address: one block in, one frame out, and back.

A frame carries its content size and a checksum of its content, so that
``zstd -dc`` checks it too.  Contexts are reused by their thread: making one costs
about as much as compressing 100 KiB.
"""

from __future__ import annotations

import threading

import zstandard

from backupd.digests import BytesLike

DEFAULT_LEVEL = 3
LEVELS = range(1, 20)
PLAIN_BYTES_MAX = 64 << 20  # of one frame: what is compressed together is about 1 MiB, and a bomb is more


class BadFrame(ValueError):
    """The bytes are not a zstd frame of the expected content size, or its checksum is off."""


class Compressor:
    """Compresses blocks at one level; may be shared by threads."""

    def __init__(self, level: int = DEFAULT_LEVEL) -> None:
        if level not in LEVELS:
            raise ValueError(f"not a compression level: {level} (1 to 19)")
        self._level = level
        self._of_thread = threading.local()

    def compress(self, plain: BytesLike) -> bytes:
        """One zstd frame that holds ``plain``."""
        context: zstandard.ZstdCompressor | None = getattr(self._of_thread, "context", None)
        if context is None:
            context = zstandard.ZstdCompressor(level=self._level, write_checksum=True, write_content_size=True)
            self._of_thread.context = context
        return context.compress(plain)


class Decompressor:
    """Expands frames; may be shared by threads."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def decompress(self, frame: BytesLike, plain_bytes: int) -> bytes:
        """The content of ``frame``, which must be exactly ``plain_bytes`` long.

        Raises:
            BadFrame: it is not, or the frame's own checksum disagrees.
        """
        context: zstandard.ZstdDecompressor | None = getattr(self._of_thread, "context", None)
        if context is None:
            context = self._of_thread.context = zstandard.ZstdDecompressor()
        try:
            # The size is asked first: a damaged frame must not make us reserve gigabytes.
            size = zstandard.frame_content_size(frame)
            if plain_bytes > PLAIN_BYTES_MAX:
                raise BadFrame(f"{plain_bytes} bytes are more than one frame holds")
            if size != plain_bytes:
                raise BadFrame(f"the frame says that it holds {size} bytes, {plain_bytes} were expected")
            plain = context.decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as problem:
            raise BadFrame(f"zstd: {problem}") from problem
        if len(plain) != plain_bytes:
            raise BadFrame(f"the frame expanded to {len(plain)} bytes, {plain_bytes} were expected")
        return plain
