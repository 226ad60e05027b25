"""Byte streams as transports: the machine's own, and the simulator's, which must not be kinder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import pytest

from twinstar.model.address import Address
from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports.free_ports import find_free_ports
from twinstar.ports.randomness import SystemRandomness
from twinstar.ports.transports import SystemTransports, Transports
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.streams import VirtualTransports
from twinstar.simulation.world.wires import Wires

PATIENCE_S = 20.0


@dataclass
class Side:
    """Where connections are made, and the addresses that nobody listens on."""

    near: Transports
    far: Transports
    free: Iterator[Address]


def real() -> Side:
    ports = (Address("127.0.0.1", port) for _ in count() for port in find_free_ports("127.0.0.1", 1))
    return Side(SystemTransports(), SystemTransports(), ports)


def simulated() -> Side:
    wires = Wires(SystemRandomness())
    near, far = (VirtualTransports(wires, Gate(), host) for host in ("near", "far"))
    return Side(near, far, (Address("far", port) for port in count(1)))


@pytest.fixture(params=[real, simulated])
def side(request: pytest.FixtureRequest) -> Side:
    make: Callable[[], Side] = request.param
    return make()


class End(asyncio.Protocol):
    def __init__(self, *, keeps_open: bool = False) -> None:
        self.came = b""
        self.ended = self.lost = False
        self.error: Exception | None = None
        self._keeps_open = keeps_open
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._news.set()

    def data_received(self, data: bytes) -> None:
        self.came += data
        self._news.set()

    def eof_received(self) -> bool:
        self.ended = True
        self._news.set()
        return self._keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost, self.error = True, exc
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


async def pair(side: Side, *, keeps_open: bool = False) -> tuple[End, End]:
    at, near, far = next(side.free), End(), End(keeps_open=keeps_open)
    listener = await side.far.serve(at, lambda: far)
    await side.near.connect(at, near)
    await far.until(lambda: hasattr(far, "transport"))
    listener.close()
    return near, far


async def close(*ends: End) -> None:
    for end in ends:
        end.transport.abort()
        await end.until(lambda end=end: end.lost)  # type: ignore[misc]


async def test_bytes_arrive_whole_and_in_order(side: Side) -> None:
    near, far = await pair(side)
    sent = b"".join(b"%06d" % number for number in range(2_000))
    for start in range(0, len(sent), 97):
        near.transport.write(sent[start : start + 97])
    await far.until(lambda: len(far.came) >= len(sent))
    assert far.came == sent
    far.transport.write(b"back")
    await near.until(lambda: near.came == b"back")
    await close(near, far)


async def test_where_nobody_listens_one_is_refused(side: Side) -> None:
    with pytest.raises(ConnectionRefusedError):
        await side.near.connect(next(side.free), End())


async def test_a_port_is_taken_once_and_free_again(side: Side) -> None:
    at = next(side.free)
    listener = await side.far.serve(at, End)
    with pytest.raises(EnvironmentTrouble, match=rf"TCP port {at.port} .* is taken"):
        await side.far.serve(at, End)
    listener.close()
    (await side.far.serve(at, End)).close()


async def test_a_closed_listener_accepts_nobody_and_what_was_accepted_goes_on(side: Side) -> None:
    at, near, far = next(side.free), End(), End()
    listener = await side.far.serve(at, lambda: far)
    await side.near.connect(at, near)
    await far.until(lambda: hasattr(far, "transport"))
    listener.close()
    await asyncio.sleep(0.01)
    with pytest.raises(ConnectionRefusedError):
        await side.near.connect(at, End())
    near.transport.write(b"still there")
    await far.until(lambda: far.came == b"still there")
    await close(near, far)


async def test_one_direction_may_end_alone(side: Side) -> None:
    near, far = await pair(side, keeps_open=True)
    near.transport.write(b"a question")
    near.transport.write_eof()
    await far.until(lambda: far.ended)
    assert far.came == b"a question"
    far.transport.write(b"its answer")
    await near.until(lambda: near.came == b"its answer")
    assert not near.lost
    await close(near, far)


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_what_was_written_before_the_end_arrives(side: Side, how: str) -> None:
    near, far = await pair(side)
    near.transport.write(b"last words")
    getattr(near.transport, how)()
    assert near.transport.is_closing()
    await far.until(lambda: far.lost)
    assert (far.came, far.ended, far.error) == (b"last words", True, None)
    await near.until(lambda: near.lost)
    assert near.error is None


async def test_who_writes_to_an_end_that_is_gone_is_reset(side: Side) -> None:
    near, far = await pair(side, keeps_open=True)
    near.transport.abort()
    await far.until(lambda: far.ended)
    async with asyncio.timeout(PATIENCE_S):
        while not far.lost:
            far.transport.write(b"hello?")
            await asyncio.sleep(0.005)
    assert isinstance(far.error, ConnectionError)


async def test_an_end_that_does_not_read_is_not_told(side: Side) -> None:
    near, far = await pair(side)
    far.transport.pause_reading()
    near.transport.write(b"later")
    await asyncio.sleep(0.05)
    assert far.came == b""
    far.transport.resume_reading()
    await far.until(lambda: far.came == b"later")
    await close(near, far)


async def test_each_end_knows_the_other(side: Side) -> None:
    near, far = await pair(side)
    assert near.transport.get_extra_info("peername")[:2] == far.transport.get_extra_info("sockname")[:2]
    assert far.transport.get_extra_info("peername")[:2] == near.transport.get_extra_info("sockname")[:2]
    await close(near, far)
