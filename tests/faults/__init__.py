"""Commands that are killed, or whose disk fails, at every single write: `python -m tests.faults`."""
