"""Which node is next, where sessions begin and are let through in the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.router.conformance import STARTUP
from twinstar.model.address import Address
from twinstar.ports.clock import SystemClock
from twinstar.router.base import Role
from twinstar.router.builtin import BuiltinRouter
from twinstar.router.routes import Route

A, B, BOTH = (Route(any=members, read=members, why=None) for members in (("a",), ("b",), ("a", "b")))
LETS_IN = b"R\0\0\0\x08\0\0\0\0"


class End(asyncio.Transport):
    """A connection whose other side is the test."""

    def write(self, data: Any) -> None:
        return

    def abort(self) -> None:
        return

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def resume_reading(self) -> None:
        return


class Servers:
    """Answer when the test says so."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Protocol] = []

    async def connect(self, to: Address, protocol: asyncio.Protocol) -> None:
        protocol.connection_made(End())
        self.asked.append(protocol)

    async def serve(self, bind: Address, make: Callable[[], asyncio.Protocol]) -> asyncio.Server:
        raise NotImplementedError  # sessions are begun by hand


async def a_moment() -> None:
    """All that can be done without news is done."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_was_just_let_through_is_not_also_on_its_way() -> None:
    servers = Servers()
    addresses = {"a": Address("a", 1), "b": Address("b", 1)}
    router = BuiltinRouter(addresses, {Role.ANY: ()}, servers, SystemClock(), max_hold_ms=60_000, max_sessions=10)

    def begin() -> asyncio.Protocol:
        client = router._accept(Role.ANY)
        client.connection_made(End())
        return client

    for route, number in ((B, 3), (A, 2)):
        router.follow(route)
        for _ in range(number):
            begin().data_received(STARTUP)
        await a_moment()
        assert len(servers.asked) == number
        if route is B:
            while servers.asked:
                servers.asked.pop().data_received(LETS_IN)
            await a_moment()
    router.follow(BOTH)
    late = begin()
    await a_moment()
    for server in servers.asked:
        server.data_received(LETS_IN)
    late.data_received(STARTUP)
    await a_moment()
    assert router.status().sessions == {Role.ANY: {"a": 2, "b": 3}}
    servers.asked[-1].data_received(LETS_IN)
    await a_moment()
    assert router.status().sessions == {Role.ANY: {"a": 3, "b": 3}}
