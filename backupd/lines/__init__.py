"""What backupd's processes write about themselves: each event one line, for a person or as JSON, without a secret."""
