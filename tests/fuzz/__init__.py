"""Fuzzing of whatever reads bytes of another party: `python -m tests.fuzz`, and a short run in the tests."""
