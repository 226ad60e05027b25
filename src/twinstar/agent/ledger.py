"""The agent's hold on the register, the seals, and the history of leaderships: one change of the register at a time.

While the outcome of one is unknown (`held.py` settles it) `changing` stays true, and the rules behave as is safe in
both cases.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable

from twinstar.agent.held import Held, Kept
from twinstar.model.effects import ChangeRegister
from twinstar.model.errors import PeerError
from twinstar.model.register import KEY, Register, Seal
from twinstar.ports.clock import Clock
from twinstar.ports.randomness import Randomness
from twinstar.store.base import ABSENT, Conflict, Store, Unknown, Versioned

REGISTER = KEY
SEALS = "seals/"
HISTORY = "history/"

_NEVER_MS = -1e12
_GONE = (
    "The store has no entry for this cluster any more: what runs goes on, but nothing can be changed. "
    "Point the configuration at the store that has it; if it is lost, run `twinstar store adopt`, which shows what "
    "each member holds before it does anything."
)
_BACK = (
    "The store has gone back to an older entry of this cluster (restored from a backup?): what runs goes on, "
    "but nothing can be changed. If this is the right store, run `twinstar store adopt`, which shows what each member "
    "holds before it does anything."
)

log = logging.getLogger(__name__)

_KEPT = Kept(REGISTER, "", Register.decode, _GONE, _BACK)


class Ledger(Held[Register]):
    def __init__(self, store: Store, me: str, clock: Clock, randomness: Randomness, wake: Callable[[], None]) -> None:
        super().__init__(_KEPT, store, me, clock, randomness, wake)
        self.changing = False
        self.settled = False
        now = clock.now_ms()
        self.version_at_ms = self.epoch_at_ms = self.seals_at_ms = now
        self.changed_sent_ms = _NEVER_MS
        """When the last change of ours that applied was sent; known as soon as the change is seen, by whatever way."""
        self.asked_lease: tuple[float, int] | None = None
        """While a change that brings a first or another lease is under way or in doubt: when it was sent, and that."""
        self.on_lease_asked: Callable[[], None] = lambda: None
        """The guard must know of a lease before anybody else can."""
        self._sent = ("", _NEVER_MS)
        """The nonce of the change that was tried last, and when it was sent."""
        self._seals: dict[int, dict[str, Seal]] = {}

    @property
    def register(self) -> Register | None:
        return self.document

    @property
    def has_changed(self) -> bool:
        """Whether a change by this run of the agent is known to have applied."""
        return self.changed_sent_ms > _NEVER_MS

    @property
    def lease_until_ms(self) -> float:
        """When this leader's lease ends, and one that it has asked for; counted from before the change was sent."""
        asked_ms = sum(self.asked_lease) if self.asked_lease else math.inf
        lease_ms = self.register.lease_ms if self.register else 0
        return min(asked_ms, self.changed_sent_ms + lease_ms if lease_ms else math.inf)

    # -- reading ------------------------------------------------------------------------------------------------------

    def seals(self, epoch: int) -> dict[str, Seal]:
        return self._seals.get(epoch, {})

    def _others(self, key: str, value: Versioned | None) -> None:
        if key.startswith(SEALS) and value is not None:
            try:
                self._add(Seal.decode(value.value))
            except PeerError as error:
                self.trouble = str(error)
                log.error("%s", error)

    def _add(self, seal: Seal) -> None:
        known = self._seals.setdefault(seal.epoch, {})
        if seal.member not in known:
            known[seal.member] = seal
            self.seals_at_ms = self._clock.now_ms()

    def _taken_over(self, old: Register | None, new: Register | None) -> None:
        # Whatever an earlier run of this agent still had in flight was based on an older revision.
        self.settled = self.settled or old is not None
        now = self._clock.now_ms()
        if new is None or old is None or (new.epoch, new.phase, new.leader) != (old.epoch, old.phase, old.leader):
            self.epoch_at_ms = now
            if new is not None:
                log.info("register: epoch %d %s, leader %s (%s)", new.epoch, new.phase, new.leader, new.reason)
                self._seals = {e: s for e, s in self._seals.items() if e >= new.epoch}
        if new is not None and new.nonce == self._sent[0]:
            self.changed_sent_ms = self._sent[1]
        self.version_at_ms = now

    def _was_adopted(self, old: Register, value: bytes) -> bool:
        """Epochs only grow, so a later one is that of a store that was adopted by hand."""
        try:
            return Register.decode(value).epoch > old.epoch
        except PeerError:
            return False

    # -- changing -----------------------------------------------------------------------------------------------------

    async def change(self, wanted: ChangeRegister) -> bool:
        """Tries one change and, when its outcome is unknown, settles it. True when it is ours that stands."""
        self.changing = True
        if self.register is not None and wanted.register.lease_ms not in (0, self.register.lease_ms):
            self.asked_lease = self._clock.now_ms(), wanted.register.lease_ms
            self.on_lease_asked()
        try:
            return await self._change(wanted)
        finally:
            self.changing, self.asked_lease = False, None
            self._wake()

    async def _change(self, wanted: ChangeRegister) -> bool:
        nonce = self._nonce()
        proposal = wanted.register.but(nonce=nonce, evidence=wanted.evidence or wanted.register.evidence)
        self._sent = (nonce, self._clock.now_ms())
        answered = await self._set(proposal.encode(), wanted.base_revision)
        ours = self.register is not None and self.register.nonce == nonce
        if answered:
            self.ok, self.settled = True, self.settled or ours
        if ours:
            log.info("changed the register: %s (%s)", wanted.reason, wanted.evidence)
        return ours

    async def publish(self, seal: Seal) -> None:
        """Publishes a seal, create-only; tries again until the store has answered. One that stands there already, as
        after a restart, is what the others choose by: so it is what counts here.
        """
        pause_ms = 10.0
        key = f"{SEALS}{seal.epoch}/{seal.member}"
        while isinstance(outcome := await self._store.compare_and_set(key, seal.encode(), ABSENT), Unknown):
            await self._clock.sleep_ms(pause_ms)
            pause_ms = min(pause_ms * 2, 500)
        stored = outcome.current if isinstance(outcome, Conflict) else None
        self._add(Seal.decode(stored.value) if stored else seal)
        self._wake()

    # -- history ------------------------------------------------------------------------------------------------------

    async def record(self, epoch: int, entry: dict[str, object]) -> None:
        """Appends one change of leader to the history; another's entry for the same epoch stays."""
        await self._store.compare_and_set(f"{HISTORY}{epoch:010d}", json.dumps(entry).encode(), ABSENT)

    async def history(self) -> list[dict[str, object]]:
        """All recorded changes of leader, oldest first. Raises StoreUnavailable."""
        return [json.loads(each.value) for each in await self._store.read_all(HISTORY)]

    async def prune(self, keep_epochs: int = 1_000) -> None:
        """Removes seals of past epochs and old history. Raises StoreUnavailable."""
        if self.register is None:
            return
        for each in await self._store.read_all(SEALS):
            if int(each.key.split("/")[1]) < self.register.epoch:
                await self._store.delete(each.key)
        for each in await self._store.read_all(HISTORY):
            if int(each.key.removeprefix(HISTORY)) < self.register.epoch - keep_epochs:
                await self._store.delete(each.key)
