"""ZooKeeper's wire protocol, as far as our client (the real code) speaks it, in front of a server of the model.

The requests of a session are carried out one after another, in the order in which they came; what was received before
the client left is carried out all the same. Whoever may do what is not looked at: an ACL is kept and shown, no more.
"""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from urllib.parse import unquote

from twinstar.ports.clock import Clock
from twinstar.simulation.stores.machines import HOSTS, StoreMachines
from twinstar.simulation.stores.memory import Doubts
from twinstar.simulation.stores.znode_tree import Event, Made, Part, Znode, children_of
from twinstar.simulation.stores.zookeeper import Ensemble, ZooKeeperServer
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.network import VirtualNetwork
from twinstar.simulation.world.streams import VirtualTransports
from twinstar.simulation.world.wires import Wires
from twinstar.store.base import Versioned
from twinstar.store.endpoints import DEFAULT_PATIENCE, Patience
from twinstar.store.zookeeper import wire
from twinstar.store.zookeeper.client import ZooKeeperStore
from twinstar.store.zookeeper.wire import Code, Grant, Op, Reader

_LONGEST_SESSION_MS = 40_000
_CONNECTED = 3
_INT, _REPLY, _PART = struct.Struct(">i"), struct.Struct(">iqi"), struct.Struct(">i?i")
_CONNECT, _STAT = struct.Struct(">iqiq"), struct.Struct(">qqqqiiiqiiq")
_WRITES = {Op.CREATE, Op.DELETE, Op.SET_DATA, Op.MULTI, Op.CLOSE}


class ZooKeeperStorage(StoreMachines[ZooKeeperServer]):
    LATENCY_MS = (0.5, 4.0)
    PORT = 2181

    def __init__(self, wires: Wires, clock: Clock) -> None:
        self.ensemble = Ensemble(HOSTS, wires, clock, self._record, self._reach)
        super().__init__(self.ensemble, lambda server, gate: _Connection(server, gate, self.doubts_of))
        self._doubts: defaultdict[str, Doubts] = defaultdict(Doubts)

    def doubts_of(self, host: str) -> Doubts:
        return self._doubts[host]

    def client(
        self, cluster: str, wires: Wires, gate: Gate, host: str, clock: Clock, patience: Patience = DEFAULT_PATIENCE
    ) -> ZooKeeperStore:
        network = VirtualNetwork(wires, gate, clock, VirtualTransports(wires, gate, host))
        return ZooKeeperStore(self.addresses, cluster, clock, network, patience=patience)

    def thaw(self) -> None:
        super().thaw()
        for server in self.ensemble.servers:
            server.draw_lag()

    def _reach(self, what: str) -> None:
        self.reached(what)

    def _record(self, parts: Sequence[Part], made: Made) -> None:
        """Keys are escaped in the names of nodes."""
        if any(made.codes):
            for part in parts:
                if part.op is Op.SET_DATA:
                    self.noticed(unquote(part.path), part.data, False)
        for path in dict.fromkeys(path for _, path in made.events):
            node = made.nodes[path]
            self.record(unquote(path), None if node is None else Versioned(unquote(path), node.data, node.modified))


class _Connection(asyncio.Protocol):
    """One session. The first message asks for it."""

    def __init__(self, server: ZooKeeperServer, gate: Gate, doubts_of: Callable[[str], Doubts]) -> None:
        """`doubts_of`: what goes wrong with what a host asks."""
        self._server, self._gate, self._doubts_of = server, gate, doubts_of
        self._ensemble, self._clock = server.ensemble, server.ensemble.clock
        self._happens = server.ensemble.wires.happens
        self._received = bytearray()
        self._waiting: deque[tuple[int, int, Reader]] = deque()
        self._working: asyncio.Task[None] | None = None
        self._watched: list[str] = []
        self._begun = self._over = False
        self._session_ms = _LONGEST_SESSION_MS
        self._heard_ms = self._clock.now_ms()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._doubts = self._doubts_of(transport.get_extra_info("peername")[0])
        self._server.sessions[self] = None

    def data_received(self, data: bytes) -> None:
        self._heard_ms = self._clock.now_ms()
        self._received += data
        while len(self._received) >= _INT.size:
            end = _INT.size + _INT.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            frame = bytes(self._received[_INT.size : end])
            del self._received[:end]
            if self._begun:
                request = Reader(frame)
                self._waiting.append((request.int(), request.int(), request))
            else:
                self._begin(Reader(frame))
        if self._waiting and self._working is None:
            self._working = self._gate.spawn(self._work())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self._over = True
        self._server.sessions.pop(self, None)

    # -- as its server sees it ----------------------------------------------------------------------------------------

    def tell(self, events: Sequence[tuple[Event, str]]) -> None:
        heard = [each for each in events if any(_is_at_or_below(each[1], watched) for watched in self._watched)]
        if heard and self._happens(self._doubts.break_watch):
            self.end()
        for event, path in heard:
            self._send(_REPLY.pack(wire.EVENT_XID, -1, 0), struct.pack(">ii", event, _CONNECTED) + wire.text(path))

    def expire(self) -> None:
        if self._clock.now_ms() - self._heard_ms > self._session_ms:
            self.end()

    def end(self) -> None:
        self._waiting.clear()
        if self._working is not None:
            self._working.cancel()
        self._over = True
        self._server.sessions.pop(self, None)
        self._transport.close()

    # -- requests -----------------------------------------------------------------------------------------------------

    def _begin(self, request: Reader) -> None:
        if self._server.follows is None:
            self.end()
            return
        self._begun = True
        _, _, wished_ms, _ = request.take(_CONNECT)
        self._session_ms = min(wished_ms, _LONGEST_SESSION_MS)
        self._waiting.append((0, 0, request))

    async def _work(self) -> None:
        while self._waiting:
            xid, op, request = self._waiting.popleft()
            if op == 0:
                await self._server.change(())  # a session is begun by a transaction
                self._send(
                    b"", struct.pack(">iiq", 0, self._session_ms, self._server.zxid) + wire.buffer(bytes(16)) + b"\0"
                )
            elif op in _WRITES:
                await self._write(Op(op), xid, request)
            elif op == Op.SYNC:
                await self._server.sync()
                self._answer(xid, Code.OK, wire.text(request.text()))
            else:
                self._answer(xid, *self._own(op, request))
        self._working = None

    async def _write(self, op: Op, xid: int, request: Reader) -> None:
        parts = _parts(request) if op is Op.MULTI else [] if op is Op.CLOSE else [_part(op, request)]
        if self._happens(self._doubts.lose_request):
            self.end()
            return
        if any(part.op is not Op.CHECK for part in parts) and self._happens(self._doubts.late_request):
            await self._held_back(parts)
            return
        made = await self._server.change(parts)
        if op is Op.CLOSE or self._happens(self._doubts.lose_answer):
            self.end()
        elif op is Op.MULTI:
            body = b"".join(_outcome(part, code, made) for part, code in zip(parts, made.codes, strict=True))
            self._answer(xid, Code.OK, body + _PART.pack(-1, True, -1))
        else:
            (code,) = made.codes
            self._answer(xid, code, b"" if code else _result(parts[0], made))

    async def _held_back(self, parts: Sequence[Part]) -> None:
        """Somewhere on its way to the leader: it arrives when the client has long given up."""
        ensemble, deadline_ms = self._ensemble, DEFAULT_PATIENCE.deadline_ms
        late_ms = deadline_ms + ensemble.wires.randomness.between(*self._doubts.late_ms)
        asyncio.get_running_loop().call_later(late_ms / 1000, ensemble.propose, lambda: ensemble.make(parts))
        await self._clock.sleep_ms(deadline_ms)
        self.end()

    def _own(self, op: int, request: Reader) -> tuple[int, bytes]:
        """What the server answers from what it has itself."""
        if op == Op.AUTH:
            return Code.OK, b""
        path, tree = request.text(), self._server.tree
        if op == Op.ADD_WATCH:
            self._watched = list(dict.fromkeys((*self._watched, path)))
            return Code.OK, _INT.pack(0)
        node = tree.get(path)
        if op == Op.GET_DATA and node is not self._ensemble.tree.get(path):
            self._ensemble.reached("an old answer")
        if node is None:
            return Code.NO_NODE, b""
        match op:
            case Op.EXISTS:
                return Code.OK, _stat(node)
            case Op.GET_DATA:
                return Code.OK, wire.buffer(node.data) + _stat(node)
            case Op.GET_CHILDREN:
                names = children_of(tree, path)
                return Code.OK, _INT.pack(len(names)) + b"".join(map(wire.text, names))
            case Op.GET_ACL:
                return Code.OK, _INT.pack(len(node.acl)) + b"".join(map(_grant, node.acl)) + _stat(node)
            case _:
                return Code.UNIMPLEMENTED, b""

    def _answer(self, xid: int, code: int, body: bytes) -> None:
        self._send(_REPLY.pack(xid, self._server.zxid, code), body)

    def _send(self, header: bytes, body: bytes) -> None:
        if not self._over:
            self._transport.write(_INT.pack(len(header) + len(body)) + header + body)


def _is_at_or_below(path: str, watched: str) -> bool:
    return path == watched or path.startswith(f"{watched}/")


def _parts(request: Reader) -> list[Part]:
    found: list[Part] = []
    while True:
        op, ended, _ = request.take(_PART)
        if ended:
            return found
        found.append(_part(Op(op), request))


def _part(op: Op, request: Reader) -> Part:
    path = request.text()
    if op is Op.CREATE:
        data, acl, _ = request.buffer(), tuple(request.grants()), request.int()
        return Part(op, path, data, acl)
    data = request.buffer() if op is Op.SET_DATA else b""
    return Part(op, path, data, version=request.int())


def _outcome(part: Part, code: int, made: Made) -> bytes:
    """Of one part of several: if one fails, all are errors."""
    if any(made.codes):
        return _PART.pack(-1, False, code) + _INT.pack(code)
    return _PART.pack(part.op, False, 0) + _result(part, made)


def _result(part: Part, made: Made) -> bytes:
    if part.op is Op.CREATE:
        return wire.text(part.path)
    node = made.nodes.get(part.path)
    return _stat(node) if part.op is Op.SET_DATA and node is not None else b""


def _stat(node: Znode) -> bytes:
    """Times, owners and the version of the ACL are not looked at by anybody."""
    return _STAT.pack(
        node.created, node.modified, 0, 0, node.version, node.children, 0, 0, len(node.data), 0, node.below
    )


def _grant(grant: Grant) -> bytes:
    return _INT.pack(grant.permissions) + wire.text(grant.scheme) + wire.text(grant.id)
