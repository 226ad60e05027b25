"""The decisions: pure functions from what a member knows to what it does. No I/O, no clock, no randomness."""
