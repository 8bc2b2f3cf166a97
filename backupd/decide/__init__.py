"""Pure decisions: values in, a value with its reasons out; no clock, disk, network or log."""
