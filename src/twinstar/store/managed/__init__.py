"""A store that Twinstar runs: the keeper of one etcd member. `docs/decisions/managed-store.md` has the reasons."""
