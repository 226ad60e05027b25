"""What TCP does when machines and links fail, on simulated wires."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.ports.test_transports import End
from twinstar.model.address import Address
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.streams import VirtualTransports
from twinstar.simulation.world.virtual_time import SeededRandomness, VirtualLoop, run_virtually
from twinstar.simulation.world.wires import Weather, Wires

AT = Address("b", 1)


class World:
    """A connection from a to b."""

    async def begin(self) -> World:
        self.wires = Wires(SeededRandomness(1), Weather(late=0))
        self.gates = {host: Gate() for host in "ab"}
        self.near, self.far = End(), End()
        await self.transports("b").serve(AT, lambda: self.far)
        await self.transports("a").connect(AT, self.near)
        await asyncio.sleep(0.1)
        return self

    def transports(self, host: str) -> VirtualTransports:
        return VirtualTransports(self.wires, self.gates[host], host)

    def power_fails(self, host: str) -> None:
        self.wires.down.add(host)
        self.gates[host].kill()


def virtually(story: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        await story(await World().begin())

    run_virtually(main(), VirtualLoop())


def test_a_dead_process_says_so_at_once() -> None:
    async def story(world: World) -> None:
        world.gates["b"].kill()
        await asyncio.sleep(0.01)
        assert world.near.ended
        with pytest.raises(ConnectionRefusedError):
            await world.transports("a").connect(AT, End())

    virtually(story)


def test_a_dead_machine_says_nothing_until_it_is_back() -> None:
    async def story(world: World) -> None:
        world.power_fails("b")
        world.near.transport.write(b"hello?")
        await asyncio.sleep(60)
        assert not world.near.lost
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await world.transports("a").connect(AT, End())
        world.wires.down.clear()
        await asyncio.sleep(120)
        assert isinstance(world.near.error, ConnectionResetError)

    virtually(story)


def test_keepalive_ends_an_idle_connection_whose_other_end_is_out_of_reach() -> None:
    async def story(world: World) -> None:
        world.wires.silent.add("b")
        await asyncio.sleep(10)
        assert not world.near.lost
        await asyncio.sleep(5)
        assert isinstance(world.near.error, TimeoutError)
        assert isinstance(world.far.error, TimeoutError)

    virtually(story)


def test_bytes_wait_for_a_cut_to_heal_and_come_late() -> None:
    async def story(world: World) -> None:
        world.wires.cut.add(("a", "b"))
        world.near.transport.write(b"late")
        await asyncio.sleep(4)
        world.wires.cut.clear()
        await asyncio.sleep(1)
        assert world.far.came == b""
        await asyncio.sleep(5)
        assert world.far.came == b"late"

    virtually(story)


def test_a_stopped_process_is_connected_to_and_reads_later() -> None:
    async def story(world: World) -> None:
        world.gates["b"].shut()
        world.near.transport.write(b"a question")
        await asyncio.sleep(60)
        assert (world.far.came, world.near.lost) == (b"", False)
        world.gates["b"].open()
        assert world.far.came == b"a question"

    virtually(story)


def test_who_did_not_read_everything_resets_by_ending() -> None:
    async def story(world: World) -> None:
        world.far.transport.pause_reading()
        world.near.transport.write(b"unread")
        await asyncio.sleep(0.1)
        world.far.transport.abort()
        await asyncio.sleep(0.1)
        assert isinstance(world.near.error, ConnectionResetError)

    virtually(story)
