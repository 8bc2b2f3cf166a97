"""Nouns: values that never change, and know nothing of clocks, disks or networks."""
