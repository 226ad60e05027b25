"""Stamps: the order of the writes of one key.

A stamp is one number of 63 bits: a clock in microseconds since 1970, times 1,024, plus the number of the node that
wrote. The clock is the key's own hybrid logical clock (Kulkarni et al., *Logical physical clocks*, 2014): the time of
the node, or one tick more than what it writes over, whichever is greater. So:

* a write is greater than everything that its writer knew of the key, however wrong the clocks are;
* no two writes of a key are equal: two nodes differ in the number, and on one node the second knows the first, since
  the row's lock orders them (what a node has forgotten is covered by its floor, see `collecting`);
* between writes that did not know each other the clocks decide, so the order is as fair as the clocks are right.

The number `REMOVAL` is no node's. `removal(x)` is the stamp at which version x, and x alone, is taken away because of
a unique key: above x, below everything that was or will be written in knowledge of x, and the same whoever finds it
necessary.

A number is never used again, neither for another node nor for the same one after its database was made anew: its
stamps are spent further than the new database knows.
"""

from __future__ import annotations

REMOVAL = 1023
NODES = range(1, REMOVAL)
"""The numbers that nodes may have."""
NONE = -1
"""Below every stamp: there is no tombstone, nothing was ever known."""
FOUND = 0
"""The stamp of a row that was in its table before that was taken in: the same row on every node."""

_BITS = 10
LAST_US = (1 << (63 - _BITS)) - 1
"""The last clock that a stamp can hold; in the year 2255."""


def pack(clock_us: int, node: int) -> int:
    """A stamp. Raises ValueError for what does not fit."""
    if not 0 <= clock_us <= LAST_US:
        raise ValueError(f"a stamp's clock is within 0 and {LAST_US} microseconds, not {clock_us}")
    if node not in NODES:
        raise ValueError(f"a node's number is within {NODES.start} and {NODES.stop - 1}, not {node}")
    return clock_us << _BITS | node


def clock_us(stamp: int) -> int:
    """Microseconds since 1970, as the row's clock had them."""
    return stamp >> _BITS


def node_of(stamp: int) -> int:
    """Who wrote it; `REMOVAL`: a unique key."""
    return stamp & REMOVAL


def following(known: int, now_us: int, node: int) -> int:
    """The stamp of a write by one who knows of stamps up to `known`."""
    return pack(max(now_us, clock_us(known) + 1), node)


def removal(version: int) -> int:
    """The stamp of the tombstone that takes this version away and no later one."""
    return version | REMOVAL
