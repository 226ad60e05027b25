"""The managed store as a person wants to see it: its members, its leader, and what one more loss would do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from twinstar.model.errors import StoreUnavailable
from twinstar.ports.clock import Clock
from twinstar.store.managed.administration import Administration, MemberStatus
from twinstar.store.managed.deciding import Listed


@dataclass(frozen=True, slots=True)
class MemberReport:
    """`state`: leader, voter, learner (it catches up), silent (it does not answer), absent (the store has no such
    member), unknown (it does not answer, and nobody has said whether it is one).
    """

    name: str
    address: str
    state: str
    id: str | None = None
    version: str | None = None
    size_bytes: int | None = None
    full: bool = False
    latency_ms: float | None = None
    """Of a question that it answers by itself."""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    members: tuple[MemberReport, ...]
    leader: str | None
    latency_ms: float | None
    """Of a linearizable read; None: the store does not serve."""
    voters: int
    answering: int
    """Of the voters."""
    strangers: tuple[str, ...] = ()
    """Members that no keeper of this configuration has: names, or addresses of those that never ran."""

    @property
    def serves(self) -> bool:
        return self.latency_ms is not None

    @property
    def whole(self) -> bool:
        """Every member of the configuration votes and answers."""
        return self.serves and all(member.state in ("leader", "voter") for member in self.members)

    @property
    def spare(self) -> int:
        """How many voters more may be lost."""
        return self.answering - (self.voters // 2 + 1)


@dataclass(frozen=True, slots=True)
class _Asked:
    status: MemberStatus | None
    latency_ms: float | None
    trouble: str


async def overview(members: Mapping[str, Administration], clock: Clock) -> Overview:
    """Asks every member. Raises nothing: who does not answer is said to."""
    asked = dict(zip(members, await asyncio.gather(*(_ask(each, clock) for each in members.values())), strict=True))
    listed, latency_ms = await _listed([members[name] for name, found in asked.items() if found.status], clock)
    return put_together({name: each.url for name, each in members.items()}, asked, listed, latency_ms)


def put_together(
    urls: Mapping[str, str], asked: Mapping[str, _Asked], listed: tuple[Listed, ...], latency_ms: float | None
) -> Overview:
    by_name = {each.name: each for each in listed if each.name}
    leader_id = next((found.status.leader for found in asked.values() if found.status and found.status.leader), "")
    leader = next((each.name for each in listed if each.id == leader_id), None)
    reports = tuple(
        _report(name, urls[name], asked[name], by_name.get(name), leader, known=bool(listed)) for name in urls
    )
    voters = [each for each in listed if not each.learner]
    answering = [each for each in voters if (found := asked.get(each.name)) and found.status]
    strangers = tuple(each.name or ", ".join(each.peer_urls) for each in listed if each.name not in urls)
    return Overview(reports, leader, latency_ms, len(voters), len(answering), strangers)


def _report(
    name: str, url: str, asked: _Asked, listed: Listed | None, leader: str | None, *, known: bool
) -> MemberReport:
    status = asked.status
    if listed is None:
        state = "absent" if known else "unknown"
        return MemberReport(name, url, state, trouble=asked.trouble)
    if status is None:
        return MemberReport(name, url, "silent", listed.id, trouble=asked.trouble)
    state = "learner" if listed.learner else "leader" if name == leader else "voter"
    return MemberReport(
        name, url, state, listed.id, status.version, status.size_bytes, status.full, asked.latency_ms, asked.trouble
    )


async def _ask(member: Administration, clock: Clock) -> _Asked:
    began = clock.now_ms()
    try:
        status = await member.status()
    except StoreUnavailable as error:
        return _Asked(None, None, str(error))
    return _Asked(status, round(clock.now_ms() - began, 1), "")


async def _listed(serving: list[Administration], clock: Clock) -> tuple[tuple[Listed, ...], float | None]:
    """The list by the first that answers linearizably, and how long that took; else what any of them has."""
    for each in serving:
        began = clock.now_ms()
        try:
            await each.read()
            latency_ms = round(clock.now_ms() - began, 1)
            return await each.members(), latency_ms
        except StoreUnavailable:
            continue
    for each in serving:
        try:
            return await each.members(), None
        except StoreUnavailable:
            continue
    return (), None
