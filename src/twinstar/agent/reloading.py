"""A configuration that was edited, taken over by a running agent as far as that goes."""

from __future__ import annotations

from collections.abc import Callable

from twinstar.agent.agent import Agent
from twinstar.agent.facts import ConfigFacts
from twinstar.agent.settings import rules_settings
from twinstar.api.control import Outcome
from twinstar.config.changes import Takes, changes
from twinstar.config.schema import Config
from twinstar.engine.base import Engine

_OURS = frozenset({Takes.RESTART_AGENT, Takes.RESTART_ENGINE})
"""What the status says that a member waits for; what waits for the router is not this member's."""


class Reloading:
    """Of one agent, which was started with `config`; `read` gives the file as it is now."""

    def __init__(
        self, agent: Agent, engine: Engine, facts: ConfigFacts, config: Config, read: Callable[[], Config]
    ) -> None:
        self._agent, self._engine, self._facts, self._config, self._read = agent, engine, facts, config, read

    async def reload(self) -> Outcome:
        """Applies what can be applied to a running member; says what waits for a restart and what is refused. Raises
        UsageError for a file that cannot work, EngineError.
        """
        new = self._read()
        agent, register = self._agent, self._agent.ledger.register
        # Who is no copy may go from the file: no commit rests on it.
        leaving = frozenset(agent.settings.addresses) - register.copies if register else frozenset()
        found = changes(self._config, new, leaving)
        refused = [each for each in found if each.takes is Takes.REFUSED]
        if refused:
            first = refused[0]
            return Outcome(False, f"`{first.key}` cannot be changed on a running cluster: {first.why}.")
        await self._engine.reload(dict(new.postgresql.parameters))
        agent.reconfigure(rules_settings(new))
        self._facts.take_over(new)
        waiting = [f"{each.key}: {each.takes}" for each in found if each.takes is not Takes.RELOAD]
        agent.waiting = tuple(each.key for each in found if each.takes in _OURS)
        self._config = new if not waiting else self._config
        message = f"{len(found) - len(waiting)} change(s) applied on {agent.settings.me}."
        if waiting:
            message += f" Waiting: {'; '.join(waiting)}."
        return Outcome(True, message, {"waiting": waiting})
