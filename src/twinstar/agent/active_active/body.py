"""The agent's hold on its own database: what is there, and the effects that change it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

from twinstar.agent.active_active.appliers import Appliers, spooled
from twinstar.engine.postgresql.multiwriter.node import NodeDatabase, NodeState, Stage
from twinstar.model.address import Address
from twinstar.model.errors import EngineError
from twinstar.ports.clock import Clock
from twinstar.rules.active_active.plan import Become, Copy, Database, Effect, Make, Own, Said, Start

_ASK_MS = 1_000.0
_NEVER_MS = -1e12

log = logging.getLogger(__name__)


class Body:
    def __init__(
        self,
        database: NodeDatabase,
        appliers: Appliers,
        addresses: dict[str, Address],
        clock: Clock,
    ) -> None:
        self.database, self.appliers, self._addresses, self._clock = database, appliers, addresses, clock
        self.mark = database.mark()
        self.running = False
        self.state: NodeState | None = None
        """What it last said; None while it does not run, or has not answered."""
        self.looked_at_ms = _NEVER_MS
        """When the question was asked that `state` answers."""
        self.spooled: frozenset[int] = frozenset()
        """Senders of whose logs something had come, just before that, that was perhaps not applied yet."""
        self.doubt = False
        """It runs and did not answer when it was last asked."""
        self.progress = ""
        self.settled: dict[tuple[int, int], int] = {}
        """(own number, a dead sender's) → up to where that one's log is here, as comparing with another has shown."""

    async def look(self) -> None:
        """Brings what is known up to date. Raises EngineError when the data directory is somebody else's."""
        self.mark = self.database.mark()
        self.running = self.database.running()
        if not self.running or self.mark.stage is not Stage.NODE:
            self.state, self.doubt = None, False
            return
        asked_ms, waiting = self._clock.now_ms(), self._spooled_now()
        try:
            state = await self.database.state(_ASK_MS)
        except EngineError as error:
            if not self.doubt:
                log.warning("%s", error)
            self.doubt = True
            return
        if state.number != self.mark.number:
            raise EngineError(
                f"The database says that it is node {state.number}, and the mark beside it says {self.mark.number}: "
                "somebody has put another one there. Put the right one back, or empty the node's directory."
            )
        self.state, self.doubt, self.looked_at_ms, self.spooled = state, False, asked_ms, waiting

    @property
    def number(self) -> int:
        """Of the node that is here; 0: none."""
        return self.mark.number if self.mark.stage is Stage.NODE else 0

    def own(self, dead: frozenset[int]) -> Own:
        """As the rules want it. `dead`: senders whose logs have ended."""
        stage, number = self.mark.stage, self.mark.number
        database = Database(stage.value)
        if stage is not Stage.NODE:
            return Own(database, made_for=number, running=self.running)
        state, running = self.state, self.running
        if state is None:
            return Own(database, number, running=running)
        applied = {sender: max(lsn, self.appliers.told(sender).here) for sender, lsn in state.applied.items()}
        # All that was received of one is applied when nobody reads it here and it had nothing here before the look.
        ended = dead - self.appliers.senders - self.spooled - self._spooled_now() if dead else dead
        received = {sender: max(applied.get(sender, 0), self.settled.get((number, sender), 0)) for sender in ended}
        return Own(database, number, running=running, slots=state.slots, applied=applied, received=received)

    def landed(self) -> dict[int, int]:
        """By sender, up to where its log is applied."""
        known = self.state.applied if self.state else {}
        return {sender: max(lsn, self.appliers.told(sender).applied) for sender, lsn in known.items()}

    def _spooled_now(self) -> frozenset[int]:
        return spooled(self.database.server.paths.state, self.mark.number)

    @property
    def known_ms(self) -> float:
        """When the oldest was asked of what `own` says. How much is in a spool that is applied alone, or not at all
        yet, nobody says: others may know better since ever.
        """
        spooling = self.appliers.spooling
        told = [self.appliers.told(sender).at_ms for sender in spooling]
        return _NEVER_MS if self.spooled - spooling else min([self.looked_at_ms, *told])

    async def perform(self, effect: Effect) -> None:
        """Carries out one effect. Raises EngineError."""
        try:
            match effect:
                case Make(number):
                    await self.database.make(number, self._say)
                case Copy(donor, number):
                    await self.database.copy(donor, self._addresses[donor], number, self._say)
                case Become(number):
                    await self.database.become(number)
                case Start():
                    await self.database.start()
        finally:
            self.progress = ""
            await self.look()

    def _say(self, sentence: str) -> None:
        self.progress = sentence
        log.info("%s", sentence)


def begun(own: Own, said: Iterable[Said], later: Iterable[Said]) -> Own:
    """With where reading begins of those from whom nothing has ever been read: at the slot that they keep.

    Nothing is missed: the donor of this database has made the slot before the copy was begun, and who is newer than
    this node has made it before its first write (guarantees 2 and 3 of the rules of life). What this node has confirmed
    to others since it looked at itself (`later` is what they have said since) it had: only a look that came after their
    word can show a gap.
    """
    begins = {each.number: each.slots[own.number] for each in said if own.number in each.slots}
    confirmed = {each.number: each.slots[own.number] for each in later if own.number in each.slots}
    applied = {**begins, **own.applied}
    return replace(own, applied={sender: max(lsn, confirmed.get(sender, 0)) for sender, lsn in applied.items()})
