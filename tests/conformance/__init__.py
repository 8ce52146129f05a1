"""Replays of vectors recorded from the real contracts. Run: python -m tests.conformance DIR."""
