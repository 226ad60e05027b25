"""Moving the register to another store, by hand: what one agent looks at before, and does."""

from __future__ import annotations

from collections.abc import Collection

from twinstar.agent.forwarding import Forward
from twinstar.api.control import Outcome
from twinstar.model.errors import TwinstarError
from twinstar.model.register import Durability, Phase, Register
from twinstar.ports.randomness import Randomness
from twinstar.store.base import Store
from twinstar.store.moving.papers import CLAIM
from twinstar.store.moving.steps import Objection, look, move
from twinstar.store.moving.store import MovingStore


class Migration:
    def __init__(
        self,
        store: Store,
        me: str,
        members: Collection[str],
        forward: Forward,
        randomness: Randomness,
        objection: Objection,
    ) -> None:
        """`forward` asks another member's agent."""
        self._store, self._me, self._members = store, me, members
        self._forward, self._randomness, self._objection = forward, randomness, objection

    async def ready(self) -> Outcome:
        """Whether this agent would go along: it knows the store that the register is to move to, and reaches it. Raises
        StoreUnavailable.
        """
        if not isinstance(self._store, MovingStore):
            return Outcome(
                False, f"{self._me} has no `next_store`: write it into its twinstar.yaml, restart its agent."
            )
        await self._store.places.new.read(CLAIM)
        to = self._store.places.name
        return Outcome(True, f"{self._me} reaches {to}.", {"to": to})

    async def migrate(self, dry_run: bool) -> Outcome:
        """Raises UsageError, StoreUnavailable."""
        own = await self.ready()
        if not own.ok or not isinstance(self._store, MovingStore):
            return own
        places = self._store.places
        if troubles := [why for member in sorted(self._members) if (why := await self._trouble(member, places.name))]:
            return Outcome(False, " ".join(troubles), {"not_ready": troubles})
        if dry_run:
            plan = await look(places, self._objection)
            return Outcome(True, f"Every agent is ready. To do: {'; '.join(plan)}.", {"to": places.name, "plan": plan})
        done: list[str] = []
        await move(places, self._objection, self._randomness, done.append)
        return Outcome(
            True,
            f"The register is in {places.name}, and every agent goes along. Now write that as `store`, remove "
            "`next_store`, and restart agents and routers one by one.",
            {"to": places.name, "done": done},
        )

    async def _trouble(self, member: str, to: str) -> str:
        """Why a member would stay behind; empty: it would not."""
        if member == self._me:
            return ""
        try:
            answer = await self._forward(member, "ready-to-migrate", {})
        except TwinstarError as error:
            return f"{member} cannot be asked ({error}): start it, or take it out of twinstar.yaml."
        if answer.ok and answer.details.get("to") != to:
            return f"{member} would move to {answer.details.get('to')}: have the same twinstar.yaml everywhere."
        return "" if answer.ok else answer.message


def leads_quietly(value: bytes) -> str:
    """The objection of active-passive: while nobody leads, seals are on their way; a lease is kept by changes."""
    register = Register.decode(value)
    if register.durability is not Durability.QUORUM:
        return (
            "With `durability: async` the leader's lease is in the register, and would end: change it to quorum first."
        )
    if register.phase is not Phase.LEADING or register.switchover is not None:
        return (
            "Nobody leads at the moment, or it is being handed over: try again when `twinstar status` shows a leader."
        )
    return ""


def nothing(_: bytes) -> str:
    """The objection of active-active: a membership may move at any time."""
    return ""
