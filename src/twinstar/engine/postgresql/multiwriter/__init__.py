"""Every node takes writes: `docs/decisions/active-active-engine.md` says how nodes stay equal, and why."""
