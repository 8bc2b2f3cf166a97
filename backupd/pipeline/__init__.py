"""Bytes in pieces: read, page check, compress, store, fetch; nothing is held whole."""
