"""Where the reading of a peer's log begins, and whether something before it is missing for good.

The slot keeps everything behind the position that this node has confirmed, and this node confirms only what it will
never need again. So what comes next is there as long as both ends remember: the slot must not begin later than what is
here, and the peer's log must not end before it. Where one of them has forgotten, no position is right: reading on
would skip what lies between, silently and for ever. The two databases have to be compared, or this one copied anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from twinstar.engine.postgresql.multiwriter.stream import Slot
from twinstar.model.errors import EngineError
from twinstar.model.position import format_lsn


class Cause(StrEnum):
    NO_ORIGIN = "no origin"
    """This database was never told from where it has to receive the peer's log, or it is one that has forgotten."""
    NO_SLOT = "no slot"
    """The peer has no slot for this node."""
    SLOT_LOST = "slot lost"
    """The peer has removed log that this node has not received."""
    SLOT_BEYOND = "slot beyond"
    """This node has confirmed more than it has: its database or its spool is an older one."""
    LOG_ENDS_BEFORE = "log ends before"
    """This node has more of the peer's log than the peer: the peer's database is an older one."""


@dataclass(frozen=True, slots=True)
class From:
    """Reading begins here."""

    position: int


@dataclass(frozen=True, slots=True)
class Gap:
    """What lies between `here`, up to which this node has the peer's log, and `there`, from where on the peer has it.
    Equal when that is not known.
    """

    cause: Cause
    here: int
    there: int


class GapFound(EngineError):
    """Reading on would skip changes."""

    def __init__(self, gap: Gap, peer: str) -> None:
        super().__init__(
            f"Something of {peer}'s log is missing here ({gap.cause}, from {format_lsn(gap.here)} to "
            f"{format_lsn(gap.there)}): compare this node with {peer}, or copy it anew."
        )
        self.gap = gap


def beginning(here: int, slot: Slot | None, log_end: int) -> From | Gap:
    """`here`: how far this node has the peer's log, 0: it was never told. `log_end`: how far the peer has it."""
    if not here:
        return Gap(Cause.NO_ORIGIN, 0, 0)
    if slot is None:
        return Gap(Cause.NO_SLOT, here, here)
    if slot.lost:
        return Gap(Cause.SLOT_LOST, here, here)
    if slot.confirmed > here:
        return Gap(Cause.SLOT_BEYOND, here, slot.confirmed)
    if log_end < here:
        return Gap(Cause.LOG_ENDS_BEFORE, here, log_end)
    return From(here)
