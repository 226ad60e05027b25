"""The agent's hold on the store: the register as last seen, the seals, and one change at a time.

A change whose answer did not come has an unknown outcome. It is settled when the register's revision has moved past
the one it was based on: by a no-op compare-and-set on that revision, which either applies (then the first never will)
or conflicts (then the register says what has happened). Until then `changing` stays true, and the rules behave as is
safe in both cases. (`docs/protocol.md`, "Unknown outcomes".)
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from contextlib import aclosing

from twinstar.model.effects import ChangeRegister
from twinstar.model.errors import PeerError, StoreUnavailable
from twinstar.model.register import Register, Seal
from twinstar.ports.clock import Clock
from twinstar.ports.randomness import Randomness
from twinstar.store.base import ABSENT, Applied, Changed, Conflict, Lost, Store, Synced, Unknown, Versioned

REGISTER = "register"
SEALS = "seals/"
HISTORY = "history/"

_LOOK_MS = 2_000
_NEVER_MS = -1e12
_GONE = (
    "The store has no entry for this cluster any more: what runs goes on, but nothing can be changed. "
    "Give the store its data back, or point the configuration at the store that has them."
)
_BACK = (
    "The store has gone back to an older entry of this cluster (restored from a backup?): what runs goes on, "
    "but nothing can be changed until it is put right."
)

log = logging.getLogger(__name__)


class Ledger:
    def __init__(self, store: Store, me: str, clock: Clock, randomness: Randomness, wake: Callable[[], None]) -> None:
        self._store, self._me, self._clock, self._randomness, self._wake = store, me, clock, randomness, wake
        self.register: Register | None = None
        self.revision = ABSENT
        self.seen = False
        self.ok = False
        self.changing = False
        self.settled = False
        self.trouble = ""
        self.misfit = ""
        """What is wrong with the register in the store, when it is none that this cluster can go on with."""
        self._found = ABSENT
        """The revision that the store last told of."""
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

    async def follow(self) -> None:
        """Keeps up with the store for ever."""
        async with aclosing(self._store.watch("")) as events:
            async for event in events:
                match event:
                    case Lost(why):
                        self._lost(why)
                    case Synced():
                        self.ok, self.trouble = True, ""
                        if self.register is not None and self._found < self.revision:
                            self._misfits(_GONE if self._found == ABSENT else _BACK)
                        self.seen = self.seen or not self.misfit
                    case Changed(key, value):
                        self._changed(key, value)
                self._wake()

    async def look(self) -> None:
        """Asks the store now and then, for ever: one that hangs while nothing is asked of it breaks no watch."""
        while True:
            await self._clock.sleep_ms(_LOOK_MS)
            was_ok = self.ok
            try:
                self._adopt(await self._store.read(REGISTER))
                self.ok, self.trouble = True, ""
            except StoreUnavailable as error:
                self._lost(str(error))
            if self.ok != was_ok:
                self._wake()

    def seals(self, epoch: int) -> dict[str, Seal]:
        return self._seals.get(epoch, {})

    def _lost(self, why: str) -> None:
        if self.ok:
            log.warning("lost contact with the store: %s", why)
        self.ok, self.trouble = False, why

    def _changed(self, key: str, value: Versioned | None) -> None:
        if key == REGISTER:
            self._adopt(value)
        elif key.startswith(SEALS) and value is not None:
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

    def _adopt(self, value: Versioned | None) -> None:
        """Takes a newer version over. What cannot be read, or is gone, changes nothing: it is a `misfit`."""
        revision = self._found = value.revision if value else ABSENT
        if self.register is not None and revision <= self.revision:
            if revision in (self.revision, ABSENT):  # else late news of an older version: nothing to speak of
                self._misfits("" if revision == self.revision else _GONE)
            return
        try:
            new = Register.decode(value.value) if value else None
        except PeerError as error:
            self._misfits(str(error))
            return
        self._misfits("")
        now, old = self._clock.now_ms(), self.register
        # Whatever an earlier run of this agent still had in flight was based on an older revision.
        self.settled = self.settled or old is not None
        if new is None or old is None or (new.epoch, new.phase, new.leader) != (old.epoch, old.phase, old.leader):
            self.epoch_at_ms = now
            if new is not None:
                log.info("register: epoch %d %s, leader %s (%s)", new.epoch, new.phase, new.leader, new.reason)
                self._seals = {e: s for e, s in self._seals.items() if e >= new.epoch}
        if new is not None and new.nonce == self._sent[0]:
            self.changed_sent_ms = self._sent[1]
        self.register, self.revision, self.version_at_ms = new, revision, now
        self.seen = True

    def _misfits(self, why: str) -> None:
        if why and why != self.misfit:
            log.error("%s", why)
        self.misfit = why

    async def confirm(self) -> None:
        """Reads the register linearizably, now. Raises StoreUnavailable, PeerError for one that is none of ours."""
        self._adopt(await self._store.read(REGISTER))
        if self.misfit:
            raise PeerError(self.misfit)

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
        nonce = f"{self._me}:{self._randomness.token()}"
        proposal = wanted.register.but(nonce=nonce, evidence=wanted.evidence or wanted.register.evidence)
        self._sent = (nonce, self._clock.now_ms())
        outcome = await self._store.compare_and_set(REGISTER, proposal.encode(), wanted.base_revision)
        match outcome:
            case Applied(revision):
                self._adopt(Versioned(REGISTER, proposal.encode(), revision))
            case Conflict(current):
                self._adopt(current)
            case Unknown(why):
                self._lost(why)
                await self._settle(wanted.base_revision)
                self.ok, self.trouble = True, ""
        ours = self.register is not None and self.register.nonce == nonce
        if not isinstance(outcome, Unknown):
            self.ok, self.settled = True, self.settled or ours
        if ours:
            log.info("changed the register: %s (%s)", wanted.reason, wanted.evidence)
        return ours

    async def _settle(self, base: int) -> None:
        pause_ms = 20.0
        while self.revision == base:
            await self._clock.sleep_ms(pause_ms)
            pause_ms = min(pause_ms * 2, 500)
            try:
                current = await self._store.read(REGISTER)
                if current is None or current.revision != base:
                    self._adopt(current)
                    return
                await self._touch(current)
            except StoreUnavailable as error:
                self._lost(str(error))

    async def _touch(self, current: Versioned) -> None:
        same = Register.decode(current.value).but(nonce=f"{self._me}:{self._randomness.token()}")
        match await self._store.compare_and_set(REGISTER, same.encode(), current.revision):
            case Applied(revision):
                self._adopt(Versioned(REGISTER, same.encode(), revision))
            case Conflict(now):
                self._adopt(now)
            case Unknown(why):
                self._lost(why)

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
