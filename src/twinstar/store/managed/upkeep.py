"""What a running member needs: promotion when it has caught up, room when it is full, its file made small again, and
another machine to lead from than the database's leader.

A full store refuses writes until its alarm is ended, member by member, which only helps when there is room: so the
keeper of etcd's leader forgets all older revisions (they are for watches that lag, which then begin anew), each keeper
defragments its own member, and then ends that member's alarm. Nothing here is done by two who must not: compacting
twice is refused by etcd, the rest concerns one's own member alone.

The member that leads the store hands that on when the database's leader is on its machine: else a machine that dies
takes both along, and the database's successor waits for the store's election as well. A witness is preferred. The
store's leader alone can do so, and whether it is done changes nothing that is promised.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from twinstar.model.errors import PeerError, StoreUnavailable
from twinstar.model.register import KEY, Register
from twinstar.store.base import root
from twinstar.store.managed.administration import Administration, MemberStatus
from twinstar.store.managed.folder import Folder
from twinstar.store.managed.settings import KeeperSettings

_WORTH_BYTES = 32 * 1024 * 1024
"""Below this nobody misses the room."""
_ROOM = 0.9
"""An alarm is ended when this share of the quota is not reached."""

log = logging.getLogger(__name__)


class Upkeep:
    def __init__(
        self, settings: KeeperSettings, folder: Folder, own: Administration, others: Mapping[str, Administration]
    ) -> None:
        self._settings, self._folder, self._own, self._others = settings, folder, own, others
        self._quota_bytes = settings.quota_bytes
        self._said = ""

    async def turn(self) -> bool:
        """Once around; False while something is still to be done soon."""
        try:
            status = await self._own.status()
            self._folder.runs_as(status.id)
            if status.learner:
                await self._promote(status)
                return False
            if status.full:
                await self._make_room(status)
                return False
            if status.size_bytes > max(_WORTH_BYTES, 2 * status.used_bytes):
                await self._own.defragment()
            if status.leader == status.id:
                await self._step_aside(status)
        except StoreUnavailable as error:
            self._say(str(error))
            return False
        self._say("")
        return True

    async def _promote(self, status: MemberStatus) -> None:
        """A learner may not ask for it itself: its etcd answers no such request."""
        trouble = "there is nobody else"
        for other in self._others.values():
            try:
                await other.promote(status.id)
            except StoreUnavailable as error:
                trouble = str(error)
            else:
                log.info("this member has caught up and votes from now on")
                return
        self._say(f"this member catches up: {trouble}")

    async def _step_aside(self, status: MemberStatus) -> None:
        try:
            value = await self._own.value(root(self._settings.cluster) + KEY)
            register = Register.decode(value) if value is not None else None
        except PeerError:  # of another version: whoever can read it may say so
            return
        if register is None or register.leader != self._settings.name:
            return
        for name in sorted(self._others, key=lambda name: name in register.copies):
            try:
                other = await self._others[name].status()
            except StoreUnavailable:
                continue
            if other.leader == status.id and not other.learner:
                await self._own.hand_over(other.id)
                log.info("%s leads the store from now on: the database's leader is here", name)
                return

    async def _make_room(self, status: MemberStatus) -> None:
        log.warning("the store is full (%d of %d bytes): making room", status.size_bytes, self._quota_bytes)
        if status.leader == status.id:
            await self._forget(status.revision)
        await self._own.defragment()
        after = await self._own.status()
        if after.size_bytes < _ROOM * self._quota_bytes:
            await self._own.disarm(after.id)
        else:
            self._say(
                f"the store is full of what is in use ({after.used_bytes} bytes): raise store.managed.quota_bytes"
            )

    async def _forget(self, revision: int) -> None:
        try:
            await self._own.compact(revision)
        except StoreUnavailable as error:  # that far it had been forgotten before
            log.info("compacting: %s", error)

    def _say(self, sentence: str) -> None:
        """Once."""
        if sentence and sentence != self._said:
            log.warning("%s", sentence)
        self._said = sentence
