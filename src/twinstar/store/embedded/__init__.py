"""The embedded store: a small process that owns a SQLite file, and its client. One machine only."""
