"""Policies: one file in git about one database, and the service's own config."""
