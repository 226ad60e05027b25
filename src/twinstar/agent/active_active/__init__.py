"""The agent of a node that takes writes: it makes, joins, serves, leaves, and applies what the others have."""
