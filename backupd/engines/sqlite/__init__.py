"""The SQLite engine: backupd's own log shipping for files that any program uses."""
