"""Agents' datagrams on real sockets: one that starts with nothing and an earlier clock is heard again."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from twinstar.agent.memory import Memory
from twinstar.agent.peers import PeerAddresses, Peers
from twinstar.model.address import Address
from twinstar.model.timing import Timings
from twinstar.model.wire import Gossip
from twinstar.ports.clock import SystemClock
from twinstar.ports.free_ports import find_free_ports
from twinstar.ports.system_network import SystemNetwork

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
PATIENCE_S = 20


async def open_peers(
    me: str,
    addresses: dict[str, PeerAddresses],
    memory: Memory,
    wall_ms: int,
    keep_start: Callable[[int], None] | None = None,
) -> Peers:
    async def probe(_: Address) -> bool:
        return False

    peers = Peers(
        me, "c", b"the cluster's own", addresses, Timings.preset("fast"), SystemClock(), SystemNetwork(), probe,
        (), memory.begin(wall_ms), lambda: None, memory.heard, keep_start or memory.start_as,
    )  # fmt: skip
    await peers.open()
    return peers


async def is_heard(speaker: Peers, member: str, listener: Peers, epoch: int) -> None:
    """Returns when it is; says something new each time, by the epoch."""
    said = Gossip("standby", "streaming", epoch, "3:0/10", "3:0/8", 1, 2, 3)
    async with asyncio.timeout(PATIENCE_S):
        while listener.gossip(member) != said:
            speaker.tell_agents(said)
            await asyncio.sleep(0.02)


async def test_an_agent_that_lost_its_disk_and_has_an_earlier_clock_is_heard_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The new disk is full for a moment, too."""
    ports = iter(find_free_ports("127.0.0.1", 6))
    addresses = {m: PeerAddresses(*(Address("127.0.0.1", next(ports)) for _ in range(3))) for m in ("a", "b")}
    other = await open_peers("b", addresses, Memory(tmp_path / "b.json"), NOW_MS)
    first = await open_peers("a", addresses, Memory(tmp_path / "a.json"), NOW_MS)
    await is_heard(first, "a", other, 3)
    first.close()
    memory = Memory(tmp_path / "a, new.json")
    tried: list[int] = []

    def keep_start(boot: int) -> None:
        tried.append(boot)
        if len(tried) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        memory.start_as(boot)

    second = await open_peers("a", addresses, memory, NOW_MS - HOUR_MS, keep_start)
    await is_heard(second, "a", other, 4)
    second.close()
    other.close()
    assert tried == [NOW_MS + 1, NOW_MS + 1]
    assert "until start number 1700000000001 can be written down" in caplog.text
    assert Memory(tmp_path / "a, new.json").begin(NOW_MS - HOUR_MS) == NOW_MS + 2
