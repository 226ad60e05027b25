"""Commands that another member's agent has to carry out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twinstar.api.client import Client
from twinstar.api.control import Outcome
from twinstar.model.address import Address
from twinstar.model.errors import UsageError

Forward = Callable[[str, str, dict[str, Any]], Awaitable[Outcome]]


def forwarding(me: str, agents: Mapping[str, Address], client: Callable[[], Client]) -> Forward:
    """To any of `agents` (HTTP) but this one. What it returns raises TwinstarError."""

    async def forward(member: str, command: str, fields: dict[str, Any]) -> Outcome:
        if member not in agents or member == me:
            raise UsageError(f"There is no other member {member!r}; see `twinstar status`.")
        return await client().command(agents[member], command, **fields)

    return forward
