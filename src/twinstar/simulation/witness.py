"""The protocol's invariants, watched from outside: by whoever could see every database and every answer.

Nothing here is known to the agents. A breach is kept and ends the run at its next check, with a sentence. (The numbers
are those of `docs/protocol.md`, "Invariants".)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from twinstar.model.effects import Reason
from twinstar.model.position import Position
from twinstar.model.register import Durability, Phase, Register


@dataclass(frozen=True, slots=True)
class Beginning:
    """A leadership: who, for which epoch, and what its log held when it began."""

    member: str
    epoch: int
    numbers: frozenset[int]
    may_lack: bool = False
    """It was not chosen by confirmations: by a lease, or because somebody accepted a loss."""


@dataclass(frozen=True, slots=True)
class Forced:
    """Somebody accepted a loss: from this epoch on the copy of one member counts, and nothing else."""

    epoch: int
    member: str
    held: frozenset[int]
    """What was on its disk then: none of it is given up."""


@dataclass(slots=True)
class Witness:
    maximum_lag_bytes: int = 1 << 20
    """`async`: how far behind the leader's last published position whoever takes over may be."""
    tell: Callable[[str], None] = print
    """What is told of the beginnings, for the story."""
    look: Callable[[], None] = lambda: None
    """Called when it matters what is promised and open right now."""
    held_by: Callable[[str], frozenset[int]] = lambda _: frozenset()
    """What is on a member's disk now."""
    beginnings: dict[int, Beginning] = field(default_factory=dict)
    acknowledged: dict[int, int] = field(default_factory=dict)
    """By number: the epoch it was acknowledged in."""
    shown: dict[int, int] = field(default_factory=dict)
    """By number: the earliest epoch in which a reader may have seen it."""
    breaches: list[str] = field(default_factory=list)
    sometimes: Counter[str] = field(default_factory=Counter)
    """How often something interesting was reached: a green run that was nowhere proves nothing."""
    most_required: int = 0
    """The most confirmations that the register ever asked for."""
    _written: dict[int, int] = field(default_factory=dict)
    """By number: the timeline that it was written on."""
    _acknowledged_by: dict[int, str] = field(default_factory=dict)
    _opened: set[int] = field(default_factory=set)
    _promises: dict[str, int] = field(default_factory=dict)
    _positions: dict[int, Position] = field(default_factory=dict)
    """By number: where in the log an acknowledged write ends."""
    _first: dict[int, Register] = field(default_factory=dict)
    """By epoch: the register with which it came to be."""
    _lacking: list[Beginning] = field(default_factory=list)
    """Those that may lack something."""
    _leaders: dict[int, str] = field(default_factory=dict)
    _forced: Forced | None = None
    """Until somebody leads by it."""
    _newest_ack: int = 0

    def began(self, member: str, epoch: int, numbers: frozenset[int], how: str) -> None:
        """A database was promoted or retagged for `epoch` (invariants 1, 2, 3 and 6)."""
        self.look()
        self.sometimes[how] += 1
        self.tell(f"{member} {how}: its database leads epoch {epoch}")
        before = self.beginnings.get(epoch)
        if before is not None:
            self.breaches.append(f"I1: epoch {epoch} was begun by {before.member} and by {member}")
        if (promise := self._promises.get(member, 0)) > epoch:
            self.breaches.append(f"I1: epoch {epoch} was begun by {member}, which had promised epoch {promise}")
        first = self._first.get(epoch)
        leased = first is not None and first.durability is Durability.ASYNC
        forced = self._takes_force(member, epoch, numbers)
        beginning = self.beginnings[epoch] = Beginning(member, epoch, numbers, leased or forced)
        if beginning.may_lack:
            self._lacking.append(beginning)
        owed = {n for n, e in self.acknowledged.items() if e < epoch} - numbers
        if leased and not forced and first is not None:
            self._lose(beginning, owed, first.position)
        self._must_hold(beginning, owed, "I2")
        self._must_hold(beginning, {n for n, e in self.shown.items() if e < epoch} - numbers, "I3")

    def writes(self, number: int, timeline: int) -> None:
        """A client's write is in the log of whoever takes it for the leader."""
        self._written[number] = timeline

    def acknowledges(self, member: str, epoch: int, number: int, position: Position) -> None:
        """A client was told that its write, which ends at `position`, stands (invariants 1, 2 and 6)."""
        first = self._acknowledged_by.setdefault(epoch, member)
        if first != member:
            self.breaches.append(f"I1: {first} and {member} both acknowledged in epoch {epoch}")
        self.acknowledged[number] = epoch
        self._positions[number] = position
        later = [b for b in self.beginnings.values() if b.epoch > epoch]
        for each in later:
            register = self._first.get(each.epoch)
            if each.epoch <= self._newest_ack and register is not None and register.durability is Durability.ASYNC:
                self.breaches.append(f"I6: {member} acknowledged in epoch {epoch} after epoch {self._newest_ack} had")
            self._must_hold(each, {number} - each.numbers, "I2")
        if later:
            self.sometimes["acknowledged late"] += 1
        self._newest_ack = max(self._newest_ack, epoch)

    def given_up(self, number: int, but: int = 0) -> bool:
        """Whether some leadership lawfully began without this write: one that may lack some, and that began later than
        it was written. `but`: an epoch that does not count.
        """
        if not self._lacking:
            return False
        written = self._written.get(number, 0)
        return any(written < b.epoch != but and number not in b.numbers for b in self._lacking)

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

    def register(self, new: Register) -> None:
        """The next version of the register (invariant 1)."""
        epoch = max(self._first, default=0)
        if new.epoch < epoch:
            self.breaches.append(f"I1: the register went from epoch {epoch} back to {new.epoch}")
        first = self._first.setdefault(new.epoch, new)
        self.most_required = max(self.most_required, new.required)
        if new is first and new.reason == Reason.FORCED and self._forced is None:
            (member,) = new.copies
            self._forced = Forced(new.epoch, member, self.held_by(member))
            self.sometimes["loss accepted"] += 1
        if new.phase is Phase.LEADING and (named := self._leaders.setdefault(new.epoch, new.leader)) != new.leader:
            self.breaches.append(f"I1: epoch {new.epoch} names {named} and {new.leader}")

    def check(self) -> None:
        """Raises AssertionError with everything that was broken."""
        if self.breaches:
            raise AssertionError("; ".join(self.breaches))

    def _takes_force(self, member: str, epoch: int, numbers: frozenset[int]) -> bool:
        """Whether this is the leadership for which a loss was accepted. Of what the chosen copy had, nothing is."""
        forced = self._forced
        if forced is None or epoch < forced.epoch:
            return False
        self._forced = None
        if member != forced.member:
            self.breaches.append(f"I2: the copy of {forced.member} was to count, and {member} leads epoch {epoch}")
        if missing := sorted(forced.held & (self.acknowledged.keys() | self.shown.keys()) - numbers):
            self.breaches.append(f"I2: {member} had {missing[:5]} when a loss was accepted, and began without it")
        if {n for n, e in self.acknowledged.items() if e < epoch} - numbers:
            self.sometimes["accepted loss was one"] += 1
        return True

    def _must_hold(self, beginning: Beginning, missing: set[int], invariant: str) -> None:
        if beginning.may_lack or not missing:
            return
        if owed := sorted(number for number in missing if not self.given_up(number)):
            self.breaches.append(
                f"{invariant}: epoch {beginning.epoch} of {beginning.member} began without {owed[:5]}, "
                f"{len(owed)} in all"
            )

    def _lose(self, beginning: Beginning, missing: set[int], published: Position | None) -> None:
        """What a leader by lease began without must have been written after the last published position, or within
        `maximum_lag_bytes` before it (invariant 6).
        """
        epoch = beginning.epoch
        lost = sorted(number for number in missing if not self.given_up(number, but=epoch))
        self.sometimes["lost within the bound"] += bool(lost)
        if published is None:
            return
        behind_lsn = published.lsn - self.maximum_lag_bytes
        at = self._positions
        if beyond := [n for n in lost if at[n].timeline <= published.timeline and at[n].lsn <= behind_lsn]:
            self.breaches.append(
                f"I6: epoch {epoch} began without {beyond[:5]}, more than {self.maximum_lag_bytes} bytes before "
                f"{published}, the last published position"
            )
