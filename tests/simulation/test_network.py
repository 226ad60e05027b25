"""The simulated wires: what is late, lost, doubled, cut one way; what waits in a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from twinstar.model.address import Address
from twinstar.model.errors import EnvironmentTrouble
from twinstar.simulation.world.clocks import MachineClock
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.network import VirtualNetwork
from twinstar.simulation.world.virtual_time import SeededRandomness, VirtualLoop, run_virtually
from twinstar.simulation.world.wires import Weather, Wires

A, B = Address("a", 1), Address("b", 1)
FAIR = Weather(late=0, twice=0)


class Socket:
    def __init__(self, network: VirtualNetwork, at: Address) -> None:
        self._network, self._at = network, at
        self.heard: list[tuple[bytes, float]] = []

    async def open(self) -> Socket:
        self.datagrams = await self._network.open_datagrams(self._at, self._hear)
        return self

    def _hear(self, data: bytes, _: Address) -> None:
        self.heard.append((data, self.datagrams.age_ms))

    @property
    def data(self) -> list[bytes]:
        return [data for data, _ in self.heard]


class World:
    def __init__(self, loop: VirtualLoop, weather: Weather) -> None:
        self.wires = Wires(SeededRandomness(1), weather)
        self.gate, self.clock = Gate(), MachineClock(loop, 0, 1_000_000)

    async def socket(self, at: Address) -> Socket:
        return await Socket(VirtualNetwork(self.wires, self.gate, self.clock), at).open()


def virtually(story: Callable[[World], Awaitable[None]], weather: Weather = FAIR) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        await story(World(loop, weather))

    run_virtually(main(), loop)


def test_a_cut_may_be_one_way() -> None:
    async def story(world: World) -> None:
        a, b = await world.socket(A), await world.socket(B)
        world.wires.cut.add(("a", "b"))
        a.datagrams.send(B, b"lost")
        b.datagrams.send(A, b"arrives")
        await asyncio.sleep(1)
        assert (a.data, b.data) == ([b"arrives"], [])

    virtually(story)


def test_what_is_under_way_when_the_cut_comes_is_lost() -> None:
    async def story(world: World) -> None:
        a, b = await world.socket(A), await world.socket(B)
        a.datagrams.send(B, b"lost")
        world.wires.down.add("b")
        await asyncio.sleep(1)
        assert b.data == []

    virtually(story)


def test_late_ones_are_overtaken_and_some_come_twice() -> None:
    async def story(world: World) -> None:
        a, b = await world.socket(A), await world.socket(B)
        for number in range(200):
            a.datagrams.send(B, b"%03d" % number)
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        assert b.data != sorted(b.data)
        assert len(b.data) > len(set(b.data))
        assert len(set(b.data)) < 200

    virtually(story, Weather(late=0.2, lost=0.1, twice=0.1))


@pytest.mark.parametrize("frozen", [False, True])
def test_what_waits_in_a_socket_has_its_age(frozen: bool) -> None:
    async def story(world: World) -> None:
        a, b = await world.socket(A), await world.socket(B)
        if frozen:
            world.gate.shut()
        else:
            b.datagrams.attend(False)
        a.datagrams.send(B, b"early")
        await asyncio.sleep(0.5)
        assert b.data == []
        world.gate.open()
        b.datagrams.poll()
        ((_, age_ms),) = b.heard
        assert 498 <= age_ms <= 500

    virtually(story)


@pytest.mark.parametrize(("step_ms", "expected_ms"), [(300, 800), (-300, 200), (-3_600_000, 0), (3_600_000, 0)])
def test_an_age_is_told_by_the_wall_clock(step_ms: float, expected_ms: float) -> None:
    """As the kernel's time stamps are; beyond a second it is not believed."""

    async def story(world: World) -> None:
        a, b = await world.socket(A), await world.socket(B)
        b.datagrams.attend(False)
        a.datagrams.send(B, b"early")
        await asyncio.sleep(0.5)
        world.clock.step_wall(step_ms)
        b.datagrams.poll()
        ((_, age_ms),) = b.heard
        assert age_ms == pytest.approx(expected_ms, abs=2)

    virtually(story)


def test_a_killed_process_leaves_its_port() -> None:
    async def story(world: World) -> None:
        first = await world.socket(A)
        with pytest.raises(EnvironmentTrouble, match="is taken"):
            await world.socket(A)
        world.gate.kill()
        world.gate = Gate()
        again, b = await world.socket(A), await world.socket(B)
        first.datagrams.close()
        b.datagrams.send(A, b"hello")
        await asyncio.sleep(1)
        assert (first.data, again.data) == ([], [b"hello"])

    virtually(story)
