"""Writers: each engine in a room of its own."""
