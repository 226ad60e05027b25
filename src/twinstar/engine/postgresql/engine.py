"""PostgreSQL behind the engine's interface: each operation is a function of a module over the member's `Server`."""

from __future__ import annotations

from twinstar.engine.base import Progress
from twinstar.engine.postgresql import bootstrap, files, process_control, reloading
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.state import Inspector
from twinstar.model.engine import EngineState
from twinstar.model.errors import EngineError

_REAL_QUERY = "SELECT count(*) FROM pg_class WHERE relkind = 'r'"
_CROWDED = ("max_wal_senders", "too many clients", "remaining connection slots")


class PostgresqlEngine:
    """One member's PostgreSQL. See `engine.base.Engine` for what each operation promises."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._inspector = Inspector(server)

    async def inspect(self) -> EngineState:
        return await self._inspector.inspect()

    async def ended(self) -> None:
        await process_control.ended(self.server)

    async def answers(self, deadline_ms: float) -> bool:
        try:
            await self.server.query_fresh(_REAL_QUERY, deadline_ms)
        except EngineError as error:
            # One that says it is full has answered: load must not end a database.
            return any(words in str(error) for words in _CROWDED)
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

    async def reload(self, parameters: dict[str, str]) -> None:
        await reloading.reload(self.server, parameters)

    async def close(self) -> None:
        await self.server.close()
