"""What nodes' agents say to each other, over real datagrams, with clocks that are wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from tests.own_ports import free_ports
from twinstar.agent.active_active.voices import Voices, gossip_extra
from twinstar.model.address import Address
from twinstar.model.wire import Gossip, Hello, Inbox, Part, PeerStatement, Sender
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.rules.active_active import skew
from twinstar.rules.active_active.plan import Said

SECRET = b"of this cluster"
BOUND_US = 10_000_000


class WrongClock(SystemClock):
    """A machine's clock that is off by so much."""

    def __init__(self, off_ms: int) -> None:
        self._off_ms = off_ms

    def wall_ms(self) -> int:
        return super().wall_ms() + self._off_ms


def statement(clock: SystemClock, number: int) -> PeerStatement:
    return PeerStatement(number, 7, True, "", 0.0, "127.0.0.1:5432", clock.wall_ms() * 1_000)


@asynccontextmanager
async def voices(**off_ms: int) -> AsyncIterator[dict[str, Voices]]:
    """One for each member, whose clock is off by so much."""
    network = SystemNetwork()
    with free_ports(len(off_ms)) as ports:
        agents = {name: Address("127.0.0.1", port) for name, port in zip(off_ms, ports, strict=True)}
    made = {}
    for number, (name, off) in enumerate(off_ms.items(), 1):
        clock = WrongClock(off)
        made[name] = Voices(
            name, agents, clock, Sender("c", SECRET, name, Part.AGENT, 1), Inbox("c", SECRET), lambda _: True,
            partial(statement, clock, number), lambda: None,
        )  # fmt: skip
        await made[name].open(network)
    try:
        yield made
    finally:
        for each in made.values():
            each.close()


async def until(condition: Callable[[], bool]) -> None:
    """Polls: what arrives tells nobody but the voice itself."""
    deadline = asyncio.get_running_loop().time() + 10
    for _ in iter(condition, True):
        assert asyncio.get_running_loop().time() < deadline, "it does not come"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("off_ms", [12_000, -12_000])
async def test_the_one_whose_clock_is_wrong_is_fenced_and_nobody_else(off_ms: int) -> None:
    async with voices(n1=0, n2=off_ms, n3=0) as three:
        for each in three.values():
            each.ask_clocks()
        await until(lambda: all(len(each.offsets()) == 2 for each in three.values()))
        fenced = {name: skew.fenced(each.offsets().values(), len(three), BOUND_US) for name, each in three.items()}
    assert fenced == {"n1": False, "n2": True, "n3": False}


async def test_clocks_within_the_bound_fence_nobody() -> None:
    async with voices(n1=0, n2=4_000, n3=-4_000) as three:
        for each in three.values():
            each.ask_clocks()
        await until(lambda: all(len(each.offsets()) == 2 for each in three.values()))
        assert not any(skew.fenced(each.offsets().values(), len(three), BOUND_US) for each in three.values())
        measured = three["n1"].offsets()["n2"]
        assert measured.least_us <= 4_000_000 <= measured.most_us + 1_000, "a clock that counts milliseconds"


async def test_who_has_spoken_is_heard_and_what_was_said_before_a_moment_is_left_out() -> None:
    async with voices(n1=0, n2=0) as two:
        assert two["n1"].said() == {}
        said = Said(2, {1: 5}, {1: 7}, 9)
        two["n2"].state()
        two["n2"].tell_agents(_gossip(said, {1: 6}))
        await until(lambda: two["n1"].said() == {"n2": said})
        assert two["n1"].said(positions="durable") == {"n2": Said(2, {1: 5}, {1: 6}, 9)}
        assert two["n1"].said(positions="landed") == {"n2": Said(2, {1: 5}, {1: 4}, 9)}
        assert two["n1"].said(since_ms=two["n1"].clock.now_ms()) == {"n2": Said(0)}


async def test_a_router_that_asks_is_told_at_once_and_then_at_each_change() -> None:
    async with voices(n1=0, n2=0) as two:
        heard: list[PeerStatement] = []
        inbox = Inbox("c", SECRET)

        def hear(data: bytes, _: Address) -> None:
            envelope = inbox.open(data)
            message = getattr(envelope, "message", None)
            assert isinstance(message, PeerStatement)
            heard.append(message)

        with free_ports(1) as (port,):
            address = Address("127.0.0.1", port)
        router = await SystemNetwork().open_datagrams(address, hear)
        try:
            router.send(two["n1"].addresses["n1"], Sender("c", SECRET, "router", Part.ROUTER, 1).pack(Hello(0)))
            await until(lambda: len(heard) == 1)
            two["n1"].state()
            await until(lambda: len(heard) == 2)
        finally:
            router.close()
        assert {each.number for each in heard} == {1}


def _gossip(said: Said, durable: dict[int, int]) -> Gossip:
    return Gossip("node", "serving", 7, "", "", 1, 1, 0, "", gossip_extra(said, {1: 4}, durable, {}))


async def test_several_questions_are_about_the_same_members() -> None:
    """Whoever falls silent between them was heard for all of them, or for none."""
    async with voices(n1=0, n2=0) as two:
        one = two["n1"]
        two["n2"].state()
        two["n2"].tell_agents(_gossip(Said(2, {1: 5}, {1: 7}, 9), {1: 6}))
        await until(lambda: "n2" in one.said())
        asked_ms = one.clock.now_ms()
        two.pop("n2").close()
        await until(lambda: "n2" not in one.said())
        assert "n2" in one.said(now_ms=asked_ms)
