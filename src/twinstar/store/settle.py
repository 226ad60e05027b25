"""How an unknown outcome ends: by moving the revision, never by reading the old value again.

A change that was sent for revision r can still be made as long as the key is at r. Setting the same value once more,
for r, excludes it: of all changes for r the store makes one.
"""

from __future__ import annotations

from twinstar.store.base import Applied, Conflict, Store, Unknown, Versioned


async def settle(store: Store, key: str, expected_revision: int) -> Versioned | Unknown | None:
    """One attempt to end the doubt about a change of `key` that was sent for `expected_revision`.

    Returns what stands now (None: deleted since), which no change for `expected_revision` can touch any more; whether
    it is one's own is told by the value (a nonce in it). `Unknown`: still in doubt, try again later. A key that is not
    there although `ABSENT` was expected can only be settled by creating it, which is the caller's to do: Unknown.
    Raises StoreUnavailable.
    """
    current = await store.read(key)
    if current is None or current.revision != expected_revision:
        moved = current is not None or expected_revision != 0
        return current if moved else Unknown(f"{key} does not exist: only creating it again can end the doubt")
    outcome = await store.compare_and_set(key, current.value, expected_revision)
    if isinstance(outcome, Applied):
        return Versioned(key, current.value, outcome.revision)
    return outcome.current if isinstance(outcome, Conflict) else outcome
