"""Agents' datagrams on real sockets: one that starts with nothing and an earlier clock is heard again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.agent.disks import full_disk
from twinstar.agent.memory import Memory
from twinstar.agent.peers import PeerAddresses, Peers
from twinstar.model.address import Address
from twinstar.model.timing import Timings
from twinstar.model.wire import EpochNotice, Gossip
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
) -> Peers:
    async def probe(_: Address) -> bool:
        return False

    peers = Peers(
        me, "c", b"the cluster's own", addresses, Timings.preset("fast"), SystemClock(), SystemNetwork(), probe,
        (), memory.begin(wall_ms), lambda: None, memory.heard, memory.keeps_start,
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
    second = await open_peers("a", addresses, memory, NOW_MS - HOUR_MS)
    with full_disk(tmp_path / "a, new.json"):
        async with asyncio.timeout(PATIENCE_S):
            while "cannot be written" not in caplog.text:
                second.tell_agents(EpochNotice(4, "a"))
                await asyncio.sleep(0.02)
    await is_heard(second, "a", other, 4)
    second.close()
    other.close()
    assert memory.now.boot == NOW_MS + 1
    assert "until start number 1700000000001 can be written down" in caplog.text
    assert Memory(tmp_path / "a, new.json").begin(NOW_MS - HOUR_MS) == NOW_MS + 2
