"""What the consumer of a watch has been told, key by key, so that several servers' news become one true story.

Each piece of news is ordered by a transaction's number: a value by its own revision, an absence by the last creation
or deletion that the server had carried out *before* it saw the key absent. What is not newer than what was told is
dropped:

* a value at or below the revision told for its key, or at or below the number of its absence, is old;
* an absence whose number is below the value's revision was seen before that value was set. A server that tells of a
  deletion has carried it out before it is asked, so that the absence is ordered after the value that was deleted.
"""

from __future__ import annotations

from collections.abc import Iterable

from twinstar.store.base import Changed, Versioned
from twinstar.store.zookeeper.znodes import Gone, Listing

_REMEMBERED = 1_000


class Story:
    def __init__(self) -> None:
        self._known: dict[str, Versioned] = {}
        self._gone: dict[str, int] = {}
        self._floor = 0
        """The number of all absences in the listing with which everything was told anew."""

    def restart(self, listing: Listing) -> list[Changed]:
        """Everything again, after contact was lost; revisions may even have gone back (an ensemble restored)."""
        standing = {value.key: value for value in listing.values}
        gone = [key for key in self._known if key not in standing]
        self._known, self._gone, self._floor = standing, {}, listing.as_of
        return [Changed(key, None) for key in gone] + [Changed(value.key, value) for value in listing.values]

    def listing(self, listing: Listing) -> list[Changed]:
        """What a further server's listing adds."""
        standing = {value.key for value in listing.values}
        absent = [Gone(key, listing.as_of) for key in self._known if key not in standing]
        return self.news(absent) + self.news(listing.values)

    def news(self, news: Iterable[Versioned | Gone]) -> list[Changed]:
        return [changed for each in news if (changed := self._one(each)) is not None]

    def _one(self, news: Versioned | Gone) -> Changed | None:
        known = self._known.get(news.key)
        if isinstance(news, Gone):
            if known is None or news.as_of <= known.revision:
                return None
            del self._known[news.key]
            self._forget(news)
            return Changed(news.key, None)
        told = known.revision if known else self._gone.get(news.key, self._floor)
        if news.revision <= told:
            return None
        self._known[news.key] = news
        self._gone.pop(news.key, None)
        return Changed(news.key, news)

    def _forget(self, gone: Gone) -> None:
        """Of very many deletions only the latest are remembered: no server is further behind than that."""
        self._gone[gone.key] = gone.as_of
        if len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]
