"""Who is connected to a simulated leader to get its log, and what lets a commit return.

A connection is counted by the name and tag that it gave itself and by the position that it reported, whatever its log
is and whoever it is. Each one goes by the names that *it* has read: while they are being changed some know the new ones
and some the old ones, and either will do. A member has one place (its slot); while a connection that nobody ended holds
it, another waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from twinstar.model.engine import BLOCKED, Names


@dataclass(slots=True, eq=False)
class Sender:
    """A leader's end of a connection."""

    member: str
    epoch: int
    streaming: bool
    """False: attached, but its log left the leader's branch. It is counted all the same."""
    flushed: int = 0
    """The LSN that it has reported."""
    replayed: int = 0
    open: bool = True
    genuine: bool = True
    """False: somebody who merely calls itself so. It is counted all the same."""
    pid: int = 0
    names: Names = BLOCKED
    """Who must confirm, as far as this process has read it."""
    heard_ms: float = 0.0
    """When the leader last heard the other end."""

    def counts_under(self, names: Names) -> bool:
        return self.member in names.voters and self.epoch == names.epoch


class Senders:
    """A database's connected standbys."""

    def __init__(self) -> None:
        self._by_place: dict[tuple[str, bool], Sender] = {}

    def __iter__(self) -> Iterator[Sender]:
        return iter(tuple(self._by_place.values()))

    def __contains__(self, sender: object) -> bool:
        return sender in self._by_place.values()

    def confirmed(self, names: Names) -> int:
        """The LSN up to which enough of those named have reported."""
        reported = sorted(
            (s.flushed for s in self._by_place.values() if s.counts_under(names)),
            reverse=True,
        )
        return reported[names.required - 1] if 0 < names.required <= len(reported) else 0

    def take(self, sender: Sender) -> bool:
        """False while another connection holds the member's place."""
        return self._by_place.setdefault((sender.member, sender.genuine), sender) is sender

    def drop(self, sender: Sender) -> None:
        sender.open = False
        if self._by_place.get((sender.member, sender.genuine)) is sender:
            del self._by_place[sender.member, sender.genuine]

    def end(self, which: Callable[[Sender], bool]) -> None:
        for sender in self:
            if which(sender):
                self.drop(sender)

    def clear(self) -> None:
        self.end(lambda _: True)
