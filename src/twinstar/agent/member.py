"""What `reload` changes of a running member of an active-passive cluster."""

from __future__ import annotations

from twinstar.agent.agent import Agent
from twinstar.agent.facts import ConfigFacts
from twinstar.agent.settings import rules_settings
from twinstar.config.schema import Config
from twinstar.engine.base import Engine


class RunningMember:
    """`agent.reloading.Reloadable`."""

    def __init__(self, agent: Agent, engine: Engine, facts: ConfigFacts) -> None:
        self._agent, self._engine, self._facts = agent, engine, facts

    def dispensable(self) -> frozenset[str]:
        # No commit rests on who is no copy.
        register = self._agent.ledger.register
        return frozenset(self._agent.settings.addresses) - register.copies if register else frozenset()

    async def apply(self, config: Config) -> None:
        await self._engine.reload(dict(config.postgresql.parameters), config.postgresql.hba)
        self._agent.reconfigure(rules_settings(config))
        self._facts.take_over(config)

    def wait_for(self, keys: tuple[str, ...]) -> None:
        self._agent.waiting = keys
