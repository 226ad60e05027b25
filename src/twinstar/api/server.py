"""The agent's HTTP interface.

Reading is free for everyone who reaches the port; what changes something needs ``Authorization: Bearer <api_token>``.
At rest nothing runs: no timer, no thread. Handlers are coroutines throughout, since microdot would run a plain function
in a thread. Errors are ``{"ok": false, "message": …}`` with a sentence for people.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from microdot import Microdot, Request, Response

from twinstar.api.commands import COMMANDS, Field, read_body
from twinstar.api.control import Control, Outcome
from twinstar.api.exchange import read_request, write_response
from twinstar.api.health import CHECKS, parse_size
from twinstar.api.tables import TABLE_COMMANDS, TableCommand, Tables
from twinstar.model.errors import TwinstarError, UsageError
from twinstar.ports.clock import Clock
from twinstar.ports.network import Address, Network

MAX_CONNECTIONS = 64
REQUEST_DEADLINE_MS = 5_000.0
"""How long a client may take to send its request."""
RESPONSE_DEADLINE_MS = 10_000.0
"""How long it may take to receive the answer. A command itself takes as long as it takes."""

_log = logging.getLogger("twinstar.api")
_Handler = Callable[[Request], Awaitable[Response]]


class Server:
    """Serves one agent's `control`. `token` is asked for at each command, so that a changed secret counts at once."""

    def __init__(
        self,
        control: Control,
        cluster: str,
        member: str,
        token: Callable[[], str],
        clock: Clock,
        tables: Tables | None = None,
    ) -> None:
        """`tables`: of a node that takes writes."""
        self._control = control
        self._tables = tables
        self._token = token
        self._clock = clock
        self._names = (cluster, member)
        self._exposition: Callable[[], Response] | None = None
        self._listener: asyncio.Server | None = None
        self._exchanges: set[asyncio.Task[None]] = set()
        self._app = self._routes()

    async def start(self, network: Network, bind: Address, tls: ssl.SSLContext | None = None) -> None:
        """Begins to serve. Raises EnvironmentTrouble when the port is taken."""
        self._listener = await network.listen(bind, self._serve, tls)

    async def close(self) -> None:
        """Stops listening and ends the exchanges that are under way."""
        if self._listener:
            self._listener.close()
        exchanges = list(self._exchanges)
        for exchange in exchanges:
            exchange.cancel()
        await asyncio.gather(*exchanges, return_exceptions=True)

    # -- one connection --------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._exchanges) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        exchange = asyncio.ensure_future(self._exchange(reader, writer))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._clock.timeout_ms(REQUEST_DEADLINE_MS):
                request = await read_request(self._app, reader, writer.get_extra_info("peername"))
            response = await self._app.dispatch_request(request)  # type: ignore[arg-type]  # None gets 400
            async with self._clock.timeout_ms(RESPONSE_DEADLINE_MS):
                await write_response(writer, response)
            writer.close()
        except OSError:  # the client is gone, or was too slow (TimeoutError): there is nobody to tell
            writer.transport.abort()
        except BaseException:
            writer.transport.abort()
            raise

    # -- what there is to ask --------------------------------------------------------------------------------------

    def _routes(self) -> Microdot:
        app = Microdot()
        app.options_handler = None  # type: ignore[assignment]  # HAProxy's `option httpchk` asks with OPTIONS and wants the check's own code
        for path in CHECKS:
            app.route(path, methods=["GET", "OPTIONS"])(self._check(path))
        app.route("/status", methods=["GET"])(self._reads(self._control.status))
        app.route("/history", methods=["GET"])(self._reads(self._control.history))
        app.route("/metrics", methods=["GET"])(self._metrics)
        for name, command in COMMANDS.items():
            run = partial(command.run, self._control)
            app.route(f"/{name}", methods=["POST"])(self._changes(name, command.fields, run))
        if self._tables is not None:
            for name, asked in TABLE_COMMANDS.items():
                answer = partial(_answered, asked, self._tables)
                app.route(f"/{name}", methods=["POST"])(self._changes(name, asked.fields, answer))
        for code, message in _REFUSALS.items():
            app.errorhandler(code)(_refusal(code, message))
        return app

    def _check(self, path: str) -> _Handler:
        async def handle(request: Request) -> Response:
            try:
                lag = parse_size(request.args["lag"]) if "lag" in request.args else None
            except ValueError as error:
                return _refused(400, f"`lag`: {error}.")
            health = self._control.health()
            code = 200 if CHECKS[path](health, lag) else 503
            return Response(b"", code) if request.method == "OPTIONS" else _json(asdict(health), code)

        return handle

    def _reads(self, read: Callable[[], Any]) -> _Handler:
        async def handle(_: Request) -> Response:
            try:
                return _json(read(), 200)
            except TwinstarError as error:
                return _refused(503, str(error))

        return handle

    async def _metrics(self, _: Request) -> Response:
        if self._exposition is None:
            self._exposition = self._load_exposition()
        return self._exposition()

    def _load_exposition(self) -> Callable[[], Response]:
        from twinstar.api.exposition import CONTENT_TYPE, Exposition

        page = Exposition(*self._names, self._control.metrics)
        return lambda: Response(page.text(), 200, {"Content-Type": CONTENT_TYPE})

    # -- what there is to change -----------------------------------------------------------------------------------

    def _changes(
        self, name: str, wanted: dict[str, Field], run: Callable[[dict[str, Any]], Awaitable[Outcome]]
    ) -> _Handler:
        async def handle(request: Request) -> Response:
            refusal = self._unauthorised(request)
            if refusal:
                return refusal
            try:
                fields = read_body(wanted, request.body or b"")
            except UsageError as error:
                return _refused(400, str(error))
            _log.log(_loudness(name), "%s asked for over HTTP by %s with %s", name, request.client_addr, fields)
            try:
                outcome = await run(fields)
            except TwinstarError as error:
                return _refused(503, str(error))
            return _json(asdict(outcome), 200 if outcome.ok else 409)

        return handle

    def _unauthorised(self, request: Request) -> Response | None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            response = _refused(401, "This needs the cluster's token: send `Authorization: Bearer <api_token>`.")
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        try:
            expected = self._token()
        except TwinstarError as error:
            _log.error("No command can be accepted: %s", error)
            return _refused(503, "This agent cannot read its own token: its log says why.")
        if not hmac.compare_digest(given.strip().encode(), expected.encode()):
            return _refused(403, "This is not the cluster's token: use the secret `api_token` of this cluster.")
        return None


async def _answered(command: TableCommand, tables: Tables, fields: dict[str, Any]) -> Outcome:
    try:
        return Outcome(True, "", await command.run(tables, fields))
    except UsageError as error:
        return Outcome(False, str(error))


def _loudness(name: str) -> int:
    """What reads only is asked for many times."""
    quiet = name.startswith("rows/") or name.endswith(("/list", "/check", "/show"))
    return logging.DEBUG if quiet and name != "rows/send" else logging.INFO


_REFUSALS = {
    400: "This is no HTTP request that can be understood: send one of at most 16 KiB.",
    404: "There is nothing at this path: see docs/status.md for those that exist.",
    405: "This path does not take that method: read with GET, change with POST.",
    413: "The body is larger than 16 KiB: a command needs a small JSON object.",
    500: "The agent met an error of its own: its log has the details.",
}


def _json(value: Any, code: int) -> Response:
    return Response(json.dumps(value), code, {"Content-Type": "application/json"})


def _refused(code: int, message: str) -> Response:
    return _json({"ok": False, "message": message}, code)


def _refusal(code: int, message: str) -> Callable[[Request], Awaitable[Response]]:
    async def handle(_: Request) -> Response:
        return _refused(code, message)

    return handle
