"""Questions and commands to a cluster's agents, from a program that has no event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twinstar.api.client import Client
from twinstar.api.control import Outcome
from twinstar.config.derive import addresses, node, tls_of
from twinstar.config.schema import Config, Node
from twinstar.config.secrets import Secret, Secrets
from twinstar.config.tls import Purpose, ssl_context
from twinstar.model.address import Address
from twinstar.model.errors import EnvironmentTrouble, PeerError, TwinstarError
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork

T = TypeVar("T")
_STATUS_DEADLINE_MS = 1_000.0


def ask_status(config: Config, deadline_ms: float = _STATUS_DEADLINE_MS) -> dict[str, Any]:
    """The cluster as the best informed agent sees it. Raises EnvironmentTrouble when none answers."""
    return asyncio.run(best_status(_client(config), config, deadline_ms))


def ask_history(config: Config) -> list[dict[str, Any]]:
    """Every recorded change of leader, oldest first. Raises EnvironmentTrouble when no agent answers."""

    async def ask() -> list[dict[str, Any]]:
        client = _client(config)
        answers = await _answers(config, client.history)
        return max((history for _, history in answers), key=len)

    return asyncio.run(ask())


def command(config: Config, name: str, *, at: str | None = None, **fields: Any) -> Outcome:
    """Has a command carried out: by the agent of `at`, else the leader's, or another one when that does not answer.

    Raises TwinstarError when nobody can be asked.
    """

    async def ask() -> Outcome:
        token = Secrets(config.secrets).read(Secret.API_TOKEN)
        client = _client(config, token)
        if at is not None:
            return await client.command(_api(node(config, at)), name, **fields)
        answers = await _answers(config, lambda address: client.status(address, _STATUS_DEADLINE_MS))
        return await client.command(_api(node(config, _whom(answers))), name, **fields)

    return asyncio.run(ask())


def command_each(config: Config, name: str, **fields: Any) -> dict[str, Outcome]:
    """Has a command carried out by every agent: one outcome for each node, also for those that do not answer."""

    async def ask() -> dict[str, Outcome]:
        client = _client(config, Secrets(config.secrets).read(Secret.API_TOKEN))
        outcomes = {}
        for each in config.nodes:
            try:
                outcomes[each.name] = await client.command(_api(each), name, **fields)
            except TwinstarError as trouble:
                outcomes[each.name] = Outcome(False, str(trouble))
        return outcomes

    return asyncio.run(ask())


async def best_status(client: Client, config: Config, deadline_ms: float) -> dict[str, Any]:
    """Of all answers the one with the highest epoch, best the leader's own."""
    answers = await _answers(config, lambda address: client.status(address, deadline_ms))
    return max(answers, key=_knowledge)[1]


def _knowledge(answer: tuple[str, dict[str, Any]]) -> tuple[int, bool, bool]:
    name, status = answer
    return status["epoch"], status["leader"] == name, status["store"]["reachable"]


async def _answers(config: Config, ask: Callable[[Address], Awaitable[T]]) -> list[tuple[str, T]]:
    results = await asyncio.gather(*(_attempt(ask, _api(each)) for each in config.nodes))
    answers = [(each.name, result) for each, (result, _) in zip(config.nodes, results, strict=True) if result]
    if not answers:
        troubles = [trouble for _, trouble in results if trouble]
        strange = [trouble for trouble in troubles if isinstance(trouble, PeerError)]
        if strange:
            raise strange[0]
        raise EnvironmentTrouble(
            "No agent of this cluster answers: start it (on one machine: `twinstar up`), or look at the agents' logs."
        )
    return answers


async def _attempt(ask: Callable[[Address], Awaitable[T]], address: Address) -> tuple[T | None, TwinstarError | None]:
    try:
        return await ask(address), None
    except TwinstarError as trouble:
        return None, trouble


def _whom(answers: list[tuple[str, dict[str, Any]]]) -> str:
    """The leader, if its agent is among those that answer, else the best informed of them."""
    name, status = max(answers, key=_knowledge)
    return status["leader"] if status["leader"] in dict(answers) else name


def _api(member: Node) -> Address:
    return addresses(member).api


def _client(config: Config, token: str | None = None) -> Client:
    tls = tls_of(config, "client")
    context = ssl_context(tls, Purpose.CALL_HTTP) if tls else None
    return Client(SystemNetwork(), SystemClock(), context, token)
