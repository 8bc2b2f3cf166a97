"""The demo: a shop that knows nothing of backupd, and the whole mission told over its database."""
