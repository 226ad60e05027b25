"""PostgreSQL with streaming replication, version 15 and later."""
