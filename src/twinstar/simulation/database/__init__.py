"""A model of PostgreSQL, of its disk, and of how its log gets from one server to another."""
