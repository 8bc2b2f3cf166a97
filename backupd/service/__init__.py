"""The service: replication of every database that a policy names, in the foreground, until it is told to stop."""
