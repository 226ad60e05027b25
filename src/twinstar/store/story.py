"""What the consumer of a watch has been told, so that broken and parallel sources become one true story.

A source is a listing followed by a stream of changes, both numbered by the store's own revisions and without gaps.
Two rules follow:

* a change at or below the revision already told is old news, whichever source brings it;
* a listing tells also what is *gone*: the keys that were known and do not stand in it.

So several sources of one prefix may be mixed: the one that is furthest ahead is the one that is heard, and the story
has no gap as long as one source is alive.
"""

from __future__ import annotations

from collections.abc import Iterable

from twinstar.store.base import Changed, Versioned


class Story:
    def __init__(self) -> None:
        self._known: dict[str, Versioned] = {}
        self.revision = 0
        """The store's revision up to which everything has been told."""

    def listing(self, present: Iterable[Versioned], revision: int) -> list[Changed]:
        """What a listing as of `revision` adds; a second source's, so nothing if the first is as far already."""
        if revision <= self.revision:
            return []
        standing = {value.key: value for value in present}
        new = [value for value in standing.values() if self._known.get(value.key) != value]
        return self._turn_to(standing, new, revision)

    def restart(self, present: Iterable[Versioned], revision: int) -> list[Changed]:
        """Everything again, after contact was lost; `revision` may even have gone back (a store that was restored)."""
        standing = {value.key: value for value in present}
        return self._turn_to(standing, list(standing.values()), revision)

    def change(self, key: str, value: Versioned | None, revision: int) -> list[Changed]:
        """One change from a stream: itself, or nothing if it is old news."""
        if revision <= self.revision:
            return []
        self.revision = revision
        if value is None:
            self._known.pop(key, None)
        else:
            self._known[key] = value
        return [Changed(key, value)]

    def _turn_to(self, standing: dict[str, Versioned], new: list[Versioned], revision: int) -> list[Changed]:
        gone = [key for key in self._known if key not in standing]
        self._known = standing
        self.revision = revision
        return [Changed(key, None) for key in gone] + [Changed(value.key, value) for value in new]
