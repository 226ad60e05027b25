"""HTTP per agent: health, status, metrics, and commands that need a token."""
