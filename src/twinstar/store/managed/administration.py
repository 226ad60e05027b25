"""etcd's member and maintenance API, of one member, through its JSON gateway."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from twinstar.model.errors import StoreUnavailable
from twinstar.ports.clock import Clock
from twinstar.store.etcd.endpoint import Endpoint
from twinstar.store.etcd.messages import Json
from twinstar.store.managed.deciding import Listed
from twinstar.store.race import Failed

_DEADLINE_MS = 2_000.0
_SLOW_MS = 30_000.0
"""Compacting and defragmenting read and write the whole database."""
_BURDEN = base64.b64encode(b"/twinstar-burden").decode()
_ANY_KEY = base64.b64encode(b"/").decode()


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """What a member says of itself. Sizes in bytes; `leader` is empty when it knows none."""

    id: str
    leader: str
    version: str
    size_bytes: int
    used_bytes: int
    revision: int
    learner: bool
    full: bool
    """The alarm NOSPACE is raised: the store takes no more writes."""


class Administration:
    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self.url = endpoint.url
        self._endpoint, self._clock = endpoint, clock

    async def status(self) -> MemberStatus:
        """Raises StoreUnavailable."""
        raw = await self._ask("/maintenance/status", {})
        header = raw.get("header", {})
        leader = str(raw.get("leader", "0"))
        return MemberStatus(
            id=str(header.get("member_id", "")),
            leader="" if leader == "0" else leader,
            version=str(raw.get("version", "")),
            size_bytes=int(raw.get("dbSize", 0)),
            used_bytes=int(raw.get("dbSizeInUse", 0)),
            revision=int(header.get("revision", 0)),
            learner=bool(raw.get("isLearner", False)),
            full=any("NOSPACE" in str(each) for each in raw.get("errors", [])),
        )

    async def read(self) -> None:
        """A linearizable read: whoever answers it has a leader with a majority, and has applied all that was decided
        before. Raises StoreUnavailable.
        """
        await self._ask("/kv/range", {"key": _ANY_KEY, "count_only": True})

    async def value(self, key: str) -> bytes | None:
        """What this member has of it, which may be old. Raises StoreUnavailable."""
        asked = base64.b64encode(key.encode()).decode()
        raw = await self._ask("/kv/range", {"key": asked, "serializable": True})
        return next((base64.b64decode(each.get("value", "")) for each in raw.get("kvs", ())), None)

    async def members(self) -> tuple[Listed, ...]:
        """The list, as this member has applied it: after `read`, not older than that. Raises StoreUnavailable."""
        raw = await self._ask("/cluster/member/list", {})
        return tuple(
            Listed(str(each["ID"]), each.get("name", ""), tuple(each.get("peerURLs", ())), each.get("isLearner", False))
            for each in raw.get("members", [])
        )

    async def add_learner(self, peer_url: str) -> str:
        """Returns the new member's id. Raises StoreUnavailable."""
        raw = await self._ask("/cluster/member/add", {"peerURLs": [peer_url], "isLearner": True})
        return str(raw["member"]["ID"])

    async def promote(self, member: str) -> None:
        """Raises StoreUnavailable, also while the learner has not caught up."""
        await self._ask("/cluster/member/promote", {"ID": member})

    async def remove(self, member: str) -> None:
        """Raises StoreUnavailable."""
        await self._ask("/cluster/member/remove", {"ID": member})

    async def hand_over(self, member: str) -> None:
        """Another one leads from now on. Raises StoreUnavailable, also when this one does not lead."""
        await self._ask("/maintenance/transfer-leadership", {"targetID": member})

    async def compact(self, revision: int) -> None:
        """Forgets everything before this revision. Raises StoreUnavailable."""
        await self._ask("/kv/compaction", {"revision": str(revision), "physical": True}, _SLOW_MS)

    async def defragment(self) -> None:
        """Gives what is free in this member's file back to the disk; it answers nothing meanwhile."""
        await self._ask("/maintenance/defragment", {}, _SLOW_MS)

    async def disarm(self, member: str) -> None:
        """Ends the alarm NOSPACE of one member. Raises StoreUnavailable."""
        await self._ask("/maintenance/alarm", {"action": "DEACTIVATE", "memberID": member, "alarm": "NOSPACE"})

    async def burden(self, size: int) -> bool:
        """Writes a value to a key of no cluster; whether the store was full. Raises StoreUnavailable."""
        value = base64.b64encode(bytes(size)).decode()
        try:
            await self._ask("/kv/put", {"key": _BURDEN, "value": value}, _SLOW_MS)
        except StoreUnavailable as error:
            if "space exceeded" in str(error):
                await self._ask("/kv/deleterange", {"key": _BURDEN})
                return True
            raise
        return False

    async def close(self) -> None:
        await self._endpoint.close()

    async def _ask(self, path: str, request: Json, deadline_ms: float = _DEADLINE_MS) -> Json:
        try:
            async with self._clock.timeout_ms(deadline_ms):
                return await self._endpoint.ask(path, request)
        except Failed as error:
            raise StoreUnavailable(str(error)) from error
        except TimeoutError:
            raise StoreUnavailable(f"{self.url}: no answer in {deadline_ms / 1000:.0f} s") from None
