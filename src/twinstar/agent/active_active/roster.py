"""The agent's hold on the membership document, and one change of it at a time.

A change is made from the membership that was seen, whose epoch is one less than its own: one that was overtaken while
it waited is not tried, since it would take back what it was not made from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from twinstar.agent.held import Held, Kept
from twinstar.model.errors import PeerError
from twinstar.model.membership import KEY, Membership, NodeState
from twinstar.ports.clock import Clock
from twinstar.ports.randomness import Randomness
from twinstar.store.base import Store

_GONE = (
    "The store has no membership of this cluster any more: what runs goes on, but nobody can join or leave. "
    "Give the store its data back."
)
_BACK = (
    "The store has gone back to an older membership (restored from a backup?): what runs goes on, but nobody can join "
    "or leave. Give the store its newest data back."
)

log = logging.getLogger(__name__)

_KEPT = Kept(KEY, KEY, Membership.decode, _GONE, _BACK)


class Roster(Held[Membership]):
    def __init__(self, store: Store, me: str, clock: Clock, randomness: Randomness, wake: Callable[[], None]) -> None:
        super().__init__(_KEPT, store, me, clock, randomness, wake)

    @property
    def membership(self) -> Membership | None:
        return self.document

    @property
    def joining(self) -> bool:
        """Somebody is being copied."""
        return self.membership is not None and bool(self.membership.in_state(NodeState.JOINING))

    @property
    def changing(self) -> bool:
        """Somebody comes, goes or is dead: what a node says is waited for."""
        return self.membership is None or any(each.state is not NodeState.IN for each in self.membership.nodes)

    async def change(self, wanted: Membership) -> bool:
        """Tries one change of what was seen last, and settles it when its outcome is unknown. True when it is what
        stands then. Raises PeerError while the membership in the store is a `misfit`.
        """
        if self.misfit:
            raise PeerError(self.misfit)
        if wanted.epoch != (self.membership.epoch if self.membership else 0) + 1:
            return False
        proposal = replace(wanted, nonce=self._nonce())
        try:
            answered = await self._set(proposal.encode(), self.revision)
        finally:
            self._wake()
        if answered:
            self.ok, self.trouble = True, ""
        ours = self.membership is not None and self.membership.nonce == proposal.nonce
        if ours:
            log.info("membership %d: %s", wanted.epoch, wanted.reason)
        return ours
