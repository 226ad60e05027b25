"""Asks an agent, for the command line, the drill and other agents. One connection for each question."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from typing import Any

from twinstar.api.control import Outcome
from twinstar.model.errors import EnvironmentTrouble, PeerError
from twinstar.ports.clock import Clock
from twinstar.ports.network import Address, Network

ASK_DEADLINE_MS = 3_000.0
COMMAND_DEADLINE_MS = 120_000.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    body: bytes

    def json(self) -> Any:
        """The body's value. Raises PeerError when it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise PeerError("The answer is no JSON: is this port really an agent's `api_port`?") from None


class Client:
    """Asks the agents of one cluster. `token` is needed for commands alone, and never shown."""

    def __init__(
        self, network: Network, clock: Clock, tls: ssl.SSLContext | None = None, token: str | None = None
    ) -> None:
        self._network = network
        self._clock = clock
        self._tls = tls
        self._token = token

    async def status(self, address: Address, deadline_ms: float = ASK_DEADLINE_MS) -> dict[str, Any]:
        """The cluster as this agent sees it. Raises EnvironmentTrouble (no answer) and PeerError (a strange one)."""
        status: dict[str, Any] = self._expect(await self.get(address, "/status", deadline_ms), dict)
        return status

    async def history(self, address: Address, deadline_ms: float = ASK_DEADLINE_MS) -> list[dict[str, Any]]:
        """The changes of leader, oldest first. Raises as `status` does."""
        history: list[dict[str, Any]] = self._expect(await self.get(address, "/history", deadline_ms), list)
        return history

    async def get(self, address: Address, path: str, deadline_ms: float = ASK_DEADLINE_MS) -> Answer:
        """Any path, with its status code. Raises EnvironmentTrouble when no answer came in time."""
        return await self._ask(address, "GET", path, b"", deadline_ms)

    async def command(
        self, address: Address, name: str, deadline_ms: float = COMMAND_DEADLINE_MS, **fields: Any
    ) -> Outcome:
        """Runs a command (`api.commands.COMMANDS`) there; a refusal is an Outcome too.

        Raises EnvironmentTrouble when no answer came in time: whether it was carried out is then *unknown*.
        """
        answer = await self._ask(address, "POST", f"/{name}", json.dumps(fields).encode(), deadline_ms)
        raw = answer.json()
        if not isinstance(raw, dict) or not isinstance(raw.get("ok"), bool):
            raise PeerError(f"The agent at {address} answered with {answer.code} and no outcome: see its log.")
        return Outcome(raw["ok"], str(raw.get("message", "")), raw.get("details") or {})

    @staticmethod
    def _expect(answer: Answer, kind: type) -> Any:
        value = answer.json()
        if answer.code != 200 or not isinstance(value, kind):
            message = value.get("message") if isinstance(value, dict) else None
            raise PeerError(message or f"The agent answered with {answer.code}: see its log.")
        return value

    async def _ask(self, address: Address, method: str, path: str, body: bytes, deadline_ms: float) -> Answer:
        try:
            async with self._clock.timeout_ms(deadline_ms):
                return await self._exchange(address, method, path, body)
        except TimeoutError:
            raise EnvironmentTrouble(
                f"The agent at {address} has not answered within {deadline_ms / 1000:g} s: "
                "look at `twinstar status` and its log."
            ) from None
        except (OSError, asyncio.IncompleteReadError) as error:
            raise EnvironmentTrouble(
                f"No agent answers at {address} ({_reason(error)}): start it, or name another node."
            ) from None

    async def _exchange(self, address: Address, method: str, path: str, body: bytes) -> Answer:
        reader, writer = await self._network.dial(address, self._tls)
        try:
            writer.write(self._head(address, method, path, body) + body)
            await writer.drain()
            return await _read_answer(reader, address)
        finally:
            writer.transport.abort()  # All is said: with TLS, closing in order would outlive a loop that ends now.

    def _head(self, address: Address, method: str, path: str, body: bytes) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {address}", "Connection: close"]
        if method == "POST":
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        if method == "POST" and self._token:
            lines.append(f"Authorization: Bearer {self._token}")
        return "\r\n".join([*lines, "", ""]).encode()

    def __repr__(self) -> str:
        return "Client(token hidden)"


async def _read_answer(reader: asyncio.StreamReader, address: Address) -> Answer:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        code = int(head[0].split()[1])
        lengths = [line.partition(":")[2] for line in head if line.lower().startswith("content-length:")]
        length = int(lengths[0]) if lengths else 0
    except (asyncio.LimitOverrunError, ValueError, IndexError):
        raise PeerError(f"{address} does not speak HTTP: is this port really an agent's `api_port`?") from None
    if not 0 <= length <= MAX_ANSWER_BYTES:
        raise PeerError(f"{address} announces an answer of {length} bytes: is this port really an agent's?")
    return Answer(code, await reader.readexactly(length))


def _reason(error: OSError | EOFError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "the connection ended early"
