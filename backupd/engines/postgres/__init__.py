"""The PostgreSQL engine: freezes, reads, truncates and restores a primary and its streaming standby."""
