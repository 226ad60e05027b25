"""etcd's JSON gateway over HTTP, as far as our client (the real code) asks it, in front of a server of the model."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Coroutine
from typing import Any

import h11

from twinstar.model.address import Address
from twinstar.ports.clock import Clock
from twinstar.simulation.etcd import Etcd, EtcdServer
from twinstar.simulation.freezing import Gate
from twinstar.simulation.memory_store import Change, MemoryServer
from twinstar.simulation.network import VirtualNetwork
from twinstar.simulation.streams import Ear, VirtualTransports
from twinstar.simulation.wires import Wires
from twinstar.store.base import ABSENT, Applied, Conflict, Versioned
from twinstar.store.etcd.client import EtcdStore

PORT = 2379
HOSTS = ("10.0.3.1", "10.0.3.2", "10.0.3.3")
Json = dict[str, Any]
_NO_LEADER = {"error": {"grpc_code": 14, "message": "etcdserver: no leader"}}


class Gateways:
    """The processes of an etcd's servers: started, killed, frozen. They begin stopped."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self._running = asyncio.create_task(etcd.run())

    @property
    def urls(self) -> list[str]:
        return [f"http://{server.host}:{PORT}" for server in self.etcd.servers]

    def start(self, server: EtcdServer) -> None:
        """What its disk holds it serves; nothing happens if it runs."""
        if server.gate is not None:
            return
        server.gate = gate = Gate()
        server.led_at_ms = self.etcd.clock.now_ms()
        Ear(self.etcd.wires, Address(server.host, PORT), lambda: _Connection(server, gate), gate)

    def kill(self, server: EtcdServer) -> None:
        gate, server.gate = server.gate, None
        if gate is not None:
            gate.kill()

    def start_all(self) -> None:
        for server in self.etcd.servers:
            self.start(server)

    def kill_all(self) -> None:
        for server in self.etcd.servers:
            self.kill(server)

    async def close(self) -> None:
        self.kill_all()
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)


class EtcdStorage(MemoryServer):
    """What a whole etcd holds, and its servers; `stop` and `start` mean all of them."""

    def __init__(self, wires: Wires, clock: Clock) -> None:
        super().__init__()
        self.running = False
        self.gateways = Gateways(Etcd(HOSTS, wires, clock, self))

    def stop(self) -> None:
        self.running = False
        self.gateways.kill_all()

    def start(self) -> None:
        self.running = True
        self.gateways.start_all()

    def client(self, cluster: str, wires: Wires, gate: Gate, host: str, clock: Clock) -> EtcdStore:
        """The real client, for a process on `host`."""
        network = VirtualNetwork(wires, gate, clock, VirtualTransports(wires, gate, host))
        return EtcdStore(self.gateways.urls, cluster, clock, network)


class _Connection(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self, server: EtcdServer, gate: Gate) -> None:
        self._server, self._gate = server, gate
        self._http = h11.Connection(h11.SERVER)
        self._target, self._body = "", bytearray()
        self._over = False
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """A change that was asked for goes on: nobody takes it back. A watch ends."""
        self._over = True
        self._server.tell()

    def _next(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._target, self._body = event.target.decode(), bytearray()
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                request = json.loads(bytes(self._body))
                self._spawn(self._watch(request) if self._target.endswith("/watch") else self._answer(request))
            else:
                return

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._gate.spawn(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Json) -> None:
        body = json.dumps(await self._carried_out(request)).encode()
        if self._over:
            return
        self._send(h11.Response(status_code=200, headers=[("Content-Length", str(len(body)))]))
        self._send(h11.Data(data=body))
        self._send(h11.EndOfMessage())
        self._http.start_next_cycle()
        self._next()

    async def _carried_out(self, request: Json) -> Json:
        match self._target.rpartition("/")[2]:
            case "range":
                await self._server.linearizable()
                return {"header": self._header(), **self._range(request)}
            case "deleterange":
                key, committed = _text(request["key"]), self._server.etcd.committed
                await self._server.change(lambda: committed.delete(key))
                return {"header": self._header()}
            case _:
                return await self._txn(request)

    async def _txn(self, request: Json) -> Json:
        (compare,), (success,) = request["compare"], request["success"]
        put, committed = success["request_put"], self._server.etcd.committed
        key, value = _text(put["key"]), base64.b64decode(put.get("value", ""))
        expected = int(compare["mod_revision"]) if compare["target"] == "MOD" else ABSENT
        outcome = await self._server.change(lambda: committed.compare_and_set(key, value, expected))
        if isinstance(outcome, Applied):
            return {"header": {"revision": str(outcome.revision)}, "succeeded": True}
        current = outcome.current if isinstance(outcome, Conflict) else None
        found = {"kvs": [_kv(current)]} if current else {}
        return {"header": self._header(), "responses": [{"response_range": found}]}

    def _range(self, request: Json) -> Json:
        first, values = _text(request["key"]), self._server.values
        if "range_end" not in request:
            found = [values[first]] if first in values else []
        else:
            end = _text(request["range_end"])
            found = [values[key] for key in sorted(values) if first <= key < end]
        if request.get("sort_target") == "MOD":
            found = sorted(found, key=lambda value: -value.revision)[:1]
        return {"kvs": [_kv(value) for value in found]} if found else {}

    async def _watch(self, request: Json) -> None:
        """Streams what this server applies, until the client leaves or the leader is lost."""
        wanted = request["create_request"]
        first, end, told = _text(wanted["key"]), _text(wanted["range_end"]), int(wanted["start_revision"]) - 1
        self._send(h11.Response(status_code=200, headers=[("Transfer-Encoding", "chunked")]))
        self._line({"result": {"header": self._header(), "created": True}})
        server = self._server
        if told < server.etcd.compacted:
            self._line({"result": {"canceled": True, "compact_revision": str(server.etcd.compacted)}})
        while not self._over and server.is_led:
            events = [_event(change) for change in server.changes(told) if first <= change.key < end]
            told = max(told, server.applied)
            if events:
                self._line({"result": {"header": self._header(), "events": events}})
            await server.news.wait()
        self._line(_NO_LEADER)
        self._transport.close()

    def _line(self, message: Json) -> None:
        self._send(h11.Data(data=json.dumps(message).encode() + b"\n"))

    def _send(self, event: h11.Event) -> None:
        if not self._over:
            self._transport.write(self._http.send(event) or b"")

    def _header(self) -> Json:
        return {"revision": str(self._server.applied)}


def _text(encoded: str) -> str:
    """Keys as the model has them; the end of a range need not be UTF-8."""
    return base64.b64decode(encoded).decode(errors="surrogateescape")


def _kv(value: Versioned) -> Json:
    key, stored = base64.b64encode(value.key.encode()).decode(), base64.b64encode(value.value).decode()
    return {"key": key, "value": stored, "mod_revision": str(value.revision)}


def _event(change: Change) -> Json:
    if change.value is not None:
        return {"kv": _kv(change.value)}
    key = base64.b64encode(change.key.encode()).decode()
    return {"type": "DELETE", "kv": {"key": key, "mod_revision": str(change.revision)}}
