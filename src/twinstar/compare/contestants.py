"""Who is compared: both strategies with both durabilities."""

from __future__ import annotations

from dataclasses import dataclass

from twinstar.config.schema import Strategy
from twinstar.drill.faults import Fault
from twinstar.model.errors import UsageError

LEASE_MS = 2_000
"""Of active-passive with `async`: an outage there takes at least as long as the lease."""

QUICK_FAULTS = (Fault.KILL_DATABASE, Fault.KILL_NODE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One contestant, before anything is measured."""

    strategy: Strategy
    durability: str

    @property
    def name(self) -> str:
        return f"{self.strategy}-{self.durability}"

    @property
    def all_write(self) -> bool:
        return self.strategy == "active-active"

    @property
    def lease_ms(self) -> int | None:
        """None: there is no lease."""
        return LEASE_MS if (self.strategy, self.durability) == ("active-passive", "async") else None

    def faults(self, *, quick: bool) -> tuple[Fault, ...]:
        """On purpose is the last one: a change of leader, or a node that leaves."""
        if quick:
            return QUICK_FAULTS
        planned = Fault.LEAVE if self.all_write else Fault.SWITCHOVER
        return (*QUICK_FAULTS, Fault.HANG_NODE, Fault.PARTITION, planned)


ENTRIES = (
    Entry("active-passive", "async"),
    Entry("active-passive", "quorum"),
    Entry("active-active", "async"),
    Entry("active-active", "quorum"),
)


def chosen(only: list[str]) -> tuple[Entry, ...]:
    """The ones whose name begins with, or is, one of these words; all without any. Raises UsageError."""
    for word in only:
        if not any(_matches(entry, word) for entry in ENTRIES):
            names = ", ".join(entry.name for entry in ENTRIES)
            raise UsageError(f"There is no contestant {word!r}: choose among {names}, or a strategy, or a durability.")
    return tuple(entry for entry in ENTRIES if not only or any(_matches(entry, word) for word in only))


def _matches(entry: Entry, word: str) -> bool:
    return word in (entry.name, entry.strategy, entry.durability)
