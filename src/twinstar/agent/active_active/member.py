"""What `reload` changes of a running node of an active-active cluster."""

from __future__ import annotations

from twinstar.agent.active_active.agent import NodeAgent
from twinstar.agent.active_active.settings import node_settings
from twinstar.config.schema import Config


class RunningNode:
    """`agent.reloading.Reloadable`. `config` is the one that is in effect."""

    def __init__(self, agent: NodeAgent, config: Config) -> None:
        self._agent, self.config = agent, config

    def dispensable(self) -> frozenset[str]:
        # Who is not in the membership has nothing that others wait for, and nobody waits for it.
        membership = self._agent.roster.membership
        if membership is None:
            return frozenset()
        return frozenset(self._agent.settings.agents) - {each.member for each in membership.nodes}

    async def apply(self, config: Config) -> None:
        agent = self._agent
        await agent.database.reload(config.postgresql.parameters, config.postgresql.hba)
        agent.reconfigure(node_settings(config, agent.settings.me, agent.settings.secret))
        self.config = config

    def wait_for(self, keys: tuple[str, ...]) -> None:
        self._agent.waiting = keys
