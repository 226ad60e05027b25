"""Are the nodes equal? Asked all the time, at a low rate; and before a dead node's end, with what differs made equal.

*All the time*: the node with the lowest number compares all tables of all nodes that are in, one question at a time
with a rest after each, and begins again after a pause. What it finds is a number in status and metrics, which
`twinstar verify --repair` brings back to 0.

*A dead node's end*: some survivors have received more of its log than others. A survivor that lacks something compares
its rows with those of the one that has most, and has what differs sent again, by whoever has the greater version (or
the tombstone), in their own streams. When both are equal it has all that the other had of the dead one's log
at the beginning, and says so as its seal. What a survivor already had of it, and what else differed, does no harm:
joining states again changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from twinstar.api.all_nodes import Ask, Verified, Verifier, everywhere, taken_in
from twinstar.model.errors import EngineError
from twinstar.ports.clock import Clock

REST_MS = 50.0
"""After each question of the continuous comparison."""
AGAIN_MS = 60_000.0
_PAUSE_MS = 2_000.0
"""Longer than what is on its way takes; what takes longer is looked at again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Equality:
    """What the last whole comparison has found."""

    at_wall_ms: int
    rows: int
    differing: int
    tables: Mapping[str, int]
    """How many rows differ, by table; those alone where some do."""


class Verifying:
    def __init__(self, ask: Ask, clock: Clock) -> None:
        self._ask, self._clock = ask, clock
        self.last: Equality | None = None

    async def compare_all(self, members: frozenset[str]) -> None:
        """One round over all tables. Raises TwinstarError when a node does not answer."""
        rows, differing = 0, {}
        for schema, name in await self._tables(members):
            verifier = Verifier(members, self._ask, self._clock, schema, name, _PAUSE_MS)
            found = await verifier.compare(_silently, REST_MS)
            rows += found.rows
            if found.unequal:
                differing[f"{schema}.{name}"] = found.unequal
        if differing:
            log.error("rows differ between the nodes (%s): look at `twinstar verify`", differing)
        self.last = Equality(self._clock.wall_ms(), rows, sum(differing.values()), differing)

    async def make_equal(self, me: str, source: str) -> None:
        """Until this node and the other one have the same rows. Raises TwinstarError when they do not come to it."""
        for schema, name in await self._tables(frozenset({me, source})):
            verifier = Verifier({me, source}, self._ask, self._clock, schema, name, _PAUSE_MS)
            found = await verifier.compare(_silently)
            if found.unequal:
                log.info("%s.%s: %d rows differ from %s's, and are sent again", schema, name, found.unequal, source)
                found = await verifier.repair(found)
            if found.unequal:
                raise EngineError(f"{schema}.{name} still differs from {source}'s in {found.unequal} rows.")

    async def _tables(self, members: frozenset[str]) -> list[tuple[str, str]]:
        return taken_in(await everywhere(sorted(members), self._ask, "tables/list", {}))


def _silently(_: Verified) -> None:
    return None
