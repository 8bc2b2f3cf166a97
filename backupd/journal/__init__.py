"""The book of one node: runs, holds, truncations and attempts, and who works on a database now."""
