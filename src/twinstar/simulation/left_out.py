"""What an engine does that the model of a database leaves out."""

from __future__ import annotations

from twinstar.model.engine import Upstream
from twinstar.model.position import Position


class LeftOut:
    async def has_log_from(self, upstream: Upstream, position: Position) -> bool:  # noqa: ARG002
        """Log is kept for ever."""
        return True

    async def keep_slots(self, members: frozenset[str]) -> None:
        """A sender's place is its slot."""

    async def reload(self, parameters: dict[str, str]) -> None:
        """Users have no settings."""

    async def close(self) -> None:
        """There are no connections."""
