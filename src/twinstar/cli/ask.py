"""Questions and commands to a cluster's agents, from a program that has no event loop of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from twinstar.api import asking
from twinstar.api.all_nodes import Ask, refused
from twinstar.api.client import Client
from twinstar.api.control import Outcome
from twinstar.config.derive import addresses, node, tls_of
from twinstar.config.schema import Config
from twinstar.config.secrets import Secret, Secrets
from twinstar.config.tls import Purpose, ssl_context
from twinstar.model.address import Address
from twinstar.model.errors import UsageError
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork


def ask_status(config: Config, deadline_ms: float = asking.STATUS_DEADLINE_MS) -> dict[str, Any]:
    """The cluster as the best informed agent sees it. Raises EnvironmentTrouble when none answers."""
    return asyncio.run(asking.best_status(_client(config), _agents(config), deadline_ms))


def ask_history(config: Config) -> list[dict[str, Any]]:
    """Every recorded change of leader, oldest first. Raises EnvironmentTrouble when no agent answers."""

    async def ask() -> list[dict[str, Any]]:
        answers = await asking.answers(_agents(config), _client(config).history)
        return max((history for _, history in answers), key=len)

    return asyncio.run(ask())


def command(config: Config, name: str, *, at: str | None = None, **fields: Any) -> Outcome:
    """Has a command carried out: by the agent of `at`, else the leader's, or another one when that does not answer.

    Raises TwinstarError when nobody can be asked.
    """
    client = _commanding(config)
    if at is not None:
        return asyncio.run(client.command(addresses(node(config, at)).api, name, **fields))
    return asyncio.run(asking.command(client, _agents(config), name, **fields))


def command_each(config: Config, name: str, **fields: Any) -> dict[str, Outcome]:
    """Has a command carried out by every agent: one outcome for each node, also for those that do not answer."""
    return asyncio.run(asking.command_each(_commanding(config), _agents(config), name, **fields))


def asker(config: Config) -> Ask:
    """A way to each node that takes writes, for questions about its tables. Raises UsageError."""
    if config.strategy != "active-active":
        raise UsageError(
            "This cluster is active-passive: its tables are written to on the leader alone, and there is nothing to "
            "take in, to bring together or to compare."
        )
    client, agents = _commanding(config), _agents(config)

    async def ask(member: str, command: str, fields: dict[str, Any]) -> dict[str, Any]:
        outcome = await client.command(agents[member], command, **fields)
        if not outcome.ok:
            raise refused(member, outcome.message)
        return outcome.details

    return ask


def _agents(config: Config) -> dict[str, Address]:
    return {each.name: addresses(each).api for each in config.nodes}


def _commanding(config: Config) -> Client:
    return _client(config, Secrets(config.secrets).read(Secret.API_TOKEN))


def _client(config: Config, token: str | None = None) -> Client:
    tls = tls_of(config, "client")
    context = ssl_context(tls, Purpose.CALL_HTTP) if tls else None
    return Client(SystemNetwork(), SystemClock(), context, token)
