"""The protocol's invariants, watched from outside: by whoever could see every database and every answer.

Nothing here is known to the agents. A breach is kept and ends the run at its next check, with a sentence. (The numbers
are those of `docs/protocol.md`, "Invariants".)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from twinstar.model.position import Position
from twinstar.model.register import Durability, Phase, Register


@dataclass(frozen=True, slots=True)
class Beginning:
    """A leadership: who, for which epoch, and what its log held when it began."""

    member: str
    epoch: int
    numbers: frozenset[int]


@dataclass(slots=True)
class Witness:
    durability: Durability
    maximum_lag_bytes: int = 1 << 20
    """`async`: how far behind the leader's last published position whoever takes over may be."""
    tell: Callable[[str], None] = print
    """What is told of the beginnings, for the story."""
    look: Callable[[], None] = lambda: None
    """Called when it matters what is promised and open right now."""
    beginnings: dict[int, Beginning] = field(default_factory=dict)
    acknowledged: dict[int, int] = field(default_factory=dict)
    """By number: the epoch it was acknowledged in."""
    lost: set[int] = field(default_factory=set)
    """`async`: what was acknowledged, and was missing when a later leader began."""
    shown: dict[int, int] = field(default_factory=dict)
    """By number: the earliest epoch in which a reader may have seen it."""
    breaches: list[str] = field(default_factory=list)
    sometimes: Counter[str] = field(default_factory=Counter)
    """How often something interesting was reached: a green run that was nowhere proves nothing."""
    _acknowledged_by: dict[int, str] = field(default_factory=dict)
    _opened: set[int] = field(default_factory=set)
    _promises: dict[str, int] = field(default_factory=dict)
    _positions: dict[int, Position] = field(default_factory=dict)
    """`async`, by number: where in the log an acknowledged write ends."""
    _published: dict[int, Position | None] = field(default_factory=dict)
    """By epoch: the leader's last published position when it came to be."""
    _leaders: dict[int, str] = field(default_factory=dict)
    _epoch: int = 0
    _newest_ack: int = 0
    _accepted_loss: int = 0

    def began(self, member: str, epoch: int, numbers: frozenset[int], how: str) -> None:
        """A database was promoted or retagged for `epoch` (invariants 1 and 2)."""
        self.look()
        self.sometimes[how] += 1
        self.tell(f"{member} {how}: its database leads epoch {epoch}")
        before = self.beginnings.get(epoch)
        if before is not None:
            self.breaches.append(f"I1: epoch {epoch} was begun by {before.member} and by {member}")
        self.beginnings[epoch] = Beginning(member, epoch, numbers)
        if self.durability is Durability.ASYNC:
            self._lose(epoch, numbers)
            return
        self._must_hold(epoch, numbers, (n for n, e in self.acknowledged.items() if self._counts(e, epoch)), "I2")
        self._must_hold(epoch, numbers, (n for n, e in self.shown.items() if self._counts(e, epoch)), "I3")

    def acknowledges(self, member: str, epoch: int, number: int, position: Position) -> None:
        """A client was told that its write, which ends at `position`, stands (invariants 1, 2 and 6)."""
        first = self._acknowledged_by.setdefault(epoch, member)
        if first != member:
            self.breaches.append(f"I1: {first} and {member} both acknowledged in epoch {epoch}")
        self.acknowledged[number] = epoch
        if self.durability is Durability.ASYNC:
            if epoch < self._newest_ack:
                self.breaches.append(f"I6: {member} acknowledged in epoch {epoch} after epoch {self._newest_ack} had")
            self._newest_ack = max(self._newest_ack, epoch)
            self._positions[number] = position
            return
        later = [b for b in self.beginnings.values() if self._counts(epoch, b.epoch)]
        for each in later:
            self._must_hold(each.epoch, each.numbers, [number], "I2")
        if later:
            self.sometimes["acknowledged late"] += 1

    def opened(self, epoch: int) -> None:
        """Routers let readers in: what the leadership began with has been shown (invariant 3)."""
        if epoch not in self._opened and (beginning := self.beginnings.get(epoch)):
            self._opened.add(epoch)
            for number in beginning.numbers:
                self.shown.setdefault(number, epoch)

    def promised(self, member: str, epoch: int) -> None:
        """A promise as it is on the member's disk now (invariant 1)."""
        if epoch < self._promises.get(member, 0):
            self.breaches.append(f"I1: the promise of {member} went from {self._promises[member]} back to {epoch}")
        self._promises[member] = epoch

    def lost_disk(self, member: str) -> None:
        """With its disk goes its promise."""
        self._promises.pop(member, None)

    def loss_accepted(self, epoch: int) -> None:
        """An operator gave up what was acknowledged before `epoch`."""
        self._accepted_loss = max(self._accepted_loss, epoch)

    def register(self, new: Register) -> None:
        """The next version of the register (invariant 1)."""
        if new.epoch < self._epoch:
            self.breaches.append(f"I1: the register went from epoch {self._epoch} back to {new.epoch}")
        self._epoch = new.epoch
        self._published.setdefault(new.epoch, new.position)
        if new.phase is Phase.LEADING and (first := self._leaders.setdefault(new.epoch, new.leader)) != new.leader:
            self.breaches.append(f"I1: epoch {new.epoch} names {first} and {new.leader}")

    def check(self) -> None:
        """Raises AssertionError with everything that was broken."""
        if self.breaches:
            raise AssertionError("; ".join(self.breaches))

    def _counts(self, earlier: int, later: int) -> bool:
        return self._accepted_loss <= earlier < later

    def _must_hold(self, epoch: int, numbers: frozenset[int], wanted: Iterable[int], invariant: str) -> None:
        missing = sorted(set(wanted) - numbers)
        if missing:
            self.breaches.append(
                f"{invariant}: epoch {epoch} of {self.beginnings[epoch].member} began without {missing[:5]}, "
                f"{len(missing)} in all"
            )

    def _lose(self, epoch: int, numbers: frozenset[int]) -> None:
        """What a leader by lease began without must have been written after the last published position, or within
        `maximum_lag_bytes` before it (invariant 6).
        """
        missing = {n for n, e in self.acknowledged.items() if self._counts(e, epoch)} - numbers - self.lost
        self.lost |= missing
        self.sometimes["lost within the bound"] += bool(missing)
        published = self._published.get(epoch)
        if published is None:
            return
        behind_lsn = published.lsn - self.maximum_lag_bytes
        positions = ((n, at) for n in sorted(missing) if (at := self._positions.get(n)) is not None)
        if beyond := [n for n, at in positions if at.timeline <= published.timeline and at.lsn <= behind_lsn]:
            self.breaches.append(
                f"I6: epoch {epoch} began without {beyond[:5]}, more than {self.maximum_lag_bytes} bytes before "
                f"{published}, the last published position"
            )
