"""PostgreSQL behind the engine's interface: each operation is a function of a module over the member's `Server`."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from twinstar.engine.base import Progress, RewindResult
from twinstar.engine.postgresql import (
    attachments,
    bootstrap,
    cloning,
    conf_files,
    files,
    following,
    names,
    process_control,
    promotion,
    reloading,
    rewinding,
    seal,
    slots,
)
from twinstar.engine.postgresql.connections import CROWDED
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.state import Inspector
from twinstar.model.engine import Attachment, EngineState, Names, Primary, Upstream
from twinstar.model.errors import EngineError
from twinstar.model.position import Branch, Position

_REAL_QUERY = "SELECT count(*) FROM pg_class WHERE relkind = 'r'"


class PostgresqlEngine:
    """One member's PostgreSQL. See `engine.base.Engine` for what each operation promises."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._inspector = Inspector(server)
        self._checkpoint: asyncio.Task[None] | None = None

    async def inspect(self) -> EngineState:
        return await self._inspector.inspect()

    async def ended(self) -> None:
        await process_control.ended(self.server)

    async def answers(self, deadline_ms: float) -> bool:
        try:
            await self.server.query_fresh(_REAL_QUERY, deadline_ms)
        except EngineError as error:
            # One that says it is full has answered: load must not end a database.
            return any(words in str(error) for words in CROWDED)
        return True

    async def start(self) -> None:
        await process_control.start(self.server)

    async def stop(self, deadline_ms: float) -> bool:
        return await process_control.stop(self.server, deadline_ms)

    async def kill(self) -> None:
        await process_control.kill(self.server)

    async def bootstrap(self, nonce: str, progress: Progress) -> str:
        return await bootstrap.bootstrap(self.server, nonce, progress)

    async def bootstrap_done(self) -> None:
        files.forget_nonce(self.server.paths)

    # -- the protocol's steps ------------------------------------------------------------------------------------------

    async def seal(self) -> Position:
        return await seal.seal(self.server)

    async def detach(self) -> Position | None:
        return await seal.detach(self.server)

    async def promote(self, epoch: int, names: Names) -> Position:
        end = await promotion.promote(self.server, epoch, names)
        self._checkpoint = asyncio.create_task(self._write_what_is_dirty())
        return end

    async def open_names(self, names_: Names) -> Position:
        return await names.open_names(self.server, names_)

    async def admit(self) -> None:
        if conf_files.open_to_clients(self.server.settings):
            self.server.reload_signal()

    async def branch(self, upstream: Upstream) -> Branch:
        return await following.branch(self.server, upstream)

    async def has_log_from(self, upstream: Upstream, position: Position) -> bool:
        return await following.has_log_from(self.server, upstream, position)

    async def follow(self, upstream: Upstream) -> None:
        await following.follow(self.server, upstream)

    async def rewind(self, upstream: Upstream, progress: Progress) -> RewindResult:
        return await rewinding.rewind(self.server, upstream, progress)

    async def clone(self, upstream: Upstream, progress: Progress) -> None:
        await cloning.clone(self.server, upstream, progress)

    # -- a running primary's care --------------------------------------------------------------------------------------

    async def primary(self) -> Primary:
        return await attachments.primary(self.server)

    async def attachments(self) -> tuple[Attachment, ...]:
        return await attachments.attachments(self.server)

    async def end_walsenders(self, pids: frozenset[int]) -> None:
        await attachments.end_walsenders(self.server, pids)

    async def prepare_stop(self) -> None:
        # The second one has next to nothing to write, and neither has the one of the stop.
        await promotion.checkpoint(self.server)
        await promotion.checkpoint(self.server)

    async def keep_slots(self, members: frozenset[str]) -> None:
        await slots.keep_slots(self.server, members)

    async def reload(self, parameters: dict[str, str], hba: tuple[str, ...]) -> None:
        await reloading.reload(self.server, parameters, hba)

    async def close(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.cancel()
            with suppress(asyncio.CancelledError):
                await self._checkpoint
        await self.server.close()

    async def _write_what_is_dirty(self) -> None:
        """A promotion's checkpoint, beside everything else. Where it fails PostgreSQL makes one by itself, later."""
        with suppress(EngineError):
            await promotion.checkpoint(self.server)
