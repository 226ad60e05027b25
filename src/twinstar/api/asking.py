"""Whom a question or a command goes to: every agent is asked how it is, and the leader's carries commands out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from twinstar.api.client import Client
from twinstar.api.control import Outcome
from twinstar.model.address import Address
from twinstar.model.errors import EnvironmentTrouble, PeerError, TwinstarError

T = TypeVar("T")
Status = dict[str, Any]
STATUS_DEADLINE_MS = 1_000.0


async def best_status(client: Client, agents: Mapping[str, Address], deadline_ms: float = STATUS_DEADLINE_MS) -> Status:
    """Of all answers the one with the highest epoch, best the leader's own. Raises as `answers` does."""
    return max(await _statuses(client, agents, deadline_ms), key=_knowledge)[1]


async def command(client: Client, agents: Mapping[str, Address], name: str, **fields: Any) -> Outcome:
    """Has a command carried out by the leader's agent, or by another one when that does not answer. Raises
    TwinstarError when nobody can be asked, or when no answer came; whether it was carried out is then unknown.
    """
    return await client.command(agents[_whom(await _statuses(client, agents, STATUS_DEADLINE_MS))], name, **fields)


async def command_each(client: Client, agents: Mapping[str, Address], name: str, **fields: Any) -> dict[str, Outcome]:
    """Has a command carried out by every agent: one outcome for each, also for those that do not answer."""
    outcomes = {}
    for member, address in agents.items():
        try:
            outcomes[member] = await client.command(address, name, **fields)
        except TwinstarError as trouble:
            outcomes[member] = Outcome(False, str(trouble))
    return outcomes


async def answers(agents: Mapping[str, Address], ask: Callable[[Address], Awaitable[T]]) -> list[tuple[str, T]]:
    """What those who answer say. Raises PeerError when there are strange answers alone, EnvironmentTrouble when there
    is none.
    """
    results = await asyncio.gather(*(_attempt(ask, address) for address in agents.values()))
    found = [(member, result) for member, (result, _) in zip(agents, results, strict=True) if result]
    if not found:
        troubles = [trouble for _, trouble in results if trouble]
        strange = [trouble for trouble in troubles if isinstance(trouble, PeerError)]
        if strange:
            raise strange[0]
        raise EnvironmentTrouble(
            "No agent of this cluster answers: start it (on one machine: `twinstar up`), or look at the agents' logs."
        )
    return found


async def _statuses(client: Client, agents: Mapping[str, Address], deadline_ms: float) -> list[tuple[str, Status]]:
    return await answers(agents, lambda address: client.status(address, deadline_ms))


def _knowledge(answer: tuple[str, Status]) -> tuple[int, bool, bool]:
    name, status = answer
    return status["epoch"], status["leader"] == name, status["store"]["reachable"]


def _whom(statuses: list[tuple[str, Status]]) -> str:
    """The leader, if its agent is among those that answer, else the best informed of them."""
    name, status = max(statuses, key=_knowledge)
    return status["leader"] if status["leader"] in dict(statuses) else name


async def _attempt(ask: Callable[[Address], Awaitable[T]], address: Address) -> tuple[T | None, TwinstarError | None]:
    try:
        return await ask(address), None
    except TwinstarError as trouble:
        return None, trouble
