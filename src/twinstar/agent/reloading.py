"""A configuration that was edited, taken over by a running agent as far as that goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from twinstar.api.control import Outcome
from twinstar.config.changes import Takes, changes
from twinstar.config.schema import Config

_OURS = frozenset({Takes.RESTART_AGENT, Takes.RESTART_ENGINE})
"""What the status says that a member waits for; what waits for the router is not this member's."""


class Reloadable(Protocol):
    """What a changed configuration is applied to."""

    def dispensable(self) -> frozenset[str]:
        """Members on whom nothing rests, so that their entries may go from the file."""
        ...

    async def apply(self, config: Config) -> None:
        """What can be applied at once. Raises EngineError when the database refuses; then nothing is changed."""
        ...

    def wait_for(self, keys: tuple[str, ...]) -> None:
        """These wait for a restart: the status says so."""
        ...


class Reloading:
    """Of the agent of `me`, which was started with `config`; `read` gives the file as it is now."""

    def __init__(self, me: str, running: Reloadable, config: Config, read: Callable[[], Config]) -> None:
        self._me, self._running, self._config, self._read = me, running, config, read
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> Outcome:
        """Applies what can be applied to a running member; says what waits for a restart and what is refused. Raises
        UsageError for a file that cannot work, EngineError.

        Nothing is written down of it: an agent that stops in the middle is started with the whole file.
        """
        async with self._one_at_a_time:
            new, running = self._read(), self._running
            found = changes(self._config, new, running.dispensable())
            refused = next((each for each in found if each.takes is Takes.REFUSED), None)
            if refused is not None:
                return Outcome(False, f"`{refused.key}` cannot be changed on a running cluster: {refused.why}.")
            await running.apply(new)
            waiting = [f"{each.key}: {each.takes}" for each in found if each.takes is not Takes.RELOAD]
            running.wait_for(tuple(each.key for each in found if each.takes in _OURS))
            self._config = new if not waiting else self._config
        message = f"{len(found) - len(waiting)} change(s) applied on {self._me}."
        if waiting:
            message += f" Waiting: {'; '.join(waiting)}."
        return Outcome(True, message, {"waiting": waiting})
