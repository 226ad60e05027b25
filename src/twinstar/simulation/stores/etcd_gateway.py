"""etcd's JSON gateway over HTTP, as far as our client (the real code) asks it, in front of a server of the model."""

from __future__ import annotations

import base64
import json
from typing import Any

from twinstar.ports.clock import Clock
from twinstar.simulation.stores.etcd import Etcd, EtcdServer
from twinstar.simulation.stores.http_serving import Asked, HttpServing
from twinstar.simulation.stores.machines import HOSTS, StoreMachines
from twinstar.simulation.stores.memory import Change
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.network import VirtualNetwork
from twinstar.simulation.world.streams import VirtualTransports
from twinstar.simulation.world.wires import Wires
from twinstar.store.base import ABSENT, Applied, Conflict, Versioned
from twinstar.store.endpoints import DEFAULT_PATIENCE, Patience
from twinstar.store.etcd.client import EtcdStore

Json = dict[str, Any]
_NO_LEADER = {"error": {"grpc_code": 14, "message": "etcdserver: no leader"}}


class EtcdStorage(StoreMachines[EtcdServer]):
    LATENCY_MS = (0.5, 4.0)
    PORT = 2379

    def __init__(self, wires: Wires, clock: Clock) -> None:
        self.etcd = Etcd(HOSTS, wires, clock, self)
        super().__init__(self.etcd, _Connection)

    def client(
        self, cluster: str, wires: Wires, gate: Gate, host: str, clock: Clock, patience: Patience = DEFAULT_PATIENCE
    ) -> EtcdStore:
        network = VirtualNetwork(wires, gate, clock, VirtualTransports(wires, gate, host))
        urls = [f"http://{address}" for address in self.addresses]
        return EtcdStore(urls, cluster, clock, network, patience=patience)

    def compact(self) -> None:
        self.etcd.compact()


class _Connection(HttpServing):
    def __init__(self, server: EtcdServer, gate: Gate) -> None:
        super().__init__(gate)
        self._server = server

    def left(self) -> None:
        self._server.tell()

    async def respond(self, asked: Asked) -> None:
        request: Json = json.loads(asked.body)
        if asked.path.endswith("/watch"):
            await self._watch(request)
        else:
            self.answer(200, json.dumps(await self._carried_out(asked.path, request)).encode())

    async def _carried_out(self, path: str, request: Json) -> Json:
        match path.rpartition("/")[2]:
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
        self.begin()
        self._line({"result": {"header": self._header(), "created": True}})
        server = self._server
        if told < server.etcd.compacted:
            self._line({"result": {"canceled": True, "compact_revision": str(server.etcd.compacted)}})
        while not self.over and server.is_led:
            events = [_event(change) for change in server.changes(told) if first <= change.key < end]
            told = max(told, server.applied)
            if events:
                self._line({"result": {"header": self._header(), "events": events}})
            await server.news.wait()
        self._line(_NO_LEADER)
        self.close()

    def _line(self, message: Json) -> None:
        self.part(json.dumps(message).encode() + b"\n")

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
