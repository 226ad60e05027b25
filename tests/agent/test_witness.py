"""A witness on real sockets: whom it hears it says, and whom it does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

from twinstar.agent.peers import PeerAddresses
from twinstar.agent.witness import WitnessAgent
from twinstar.model.address import Address
from twinstar.model.timing import Timings
from twinstar.model.wire import Answer, Ask, EngineWord, Envelope, Heartbeat, Inbox, Part, Sender, Told
from twinstar.ports.clock import SystemClock
from twinstar.ports.free_ports import find_free_ports
from twinstar.ports.network import Datagrams
from twinstar.ports.system_network import SystemNetwork

SECRET = b"the cluster's own"
PATIENCE_S = 30


async def nobody(_: Address) -> bool:
    return False


async def test_a_witness_answers_whom_it_hears(tmp_path: Path) -> None:
    ports = iter(find_free_ports("127.0.0.1", 8))
    agent, guard = (Address("127.0.0.1", next(ports)) for _ in range(2))
    at = {m: PeerAddresses(*(Address("127.0.0.1", next(ports)) for _ in range(3))) for m in ("a", "b")}
    at["w"] = PeerAddresses(agent, guard, database=None)
    clock, network = SystemClock(), SystemNetwork()
    heard: list[Envelope] = []
    inbox = Inbox("c", SECRET)

    def hear(data: bytes, _: Address) -> None:
        envelope = inbox.open(data)
        if isinstance(envelope, Envelope):
            heard.append(envelope)

    asker, own_guard = Sender("c", SECRET, "b", Part.AGENT, 1), Sender("c", SECRET, "a", Part.GUARD, 1)
    ears = [await network.open_datagrams(each, hear) for each in (at["b"].agent, guard)]
    timings = Timings.preset("fast")
    witness = WitnessAgent("w", "c", SECRET, at, timings, tmp_path / "w.json", clock, network, nobody)
    running = asyncio.create_task(witness.run())
    try:
        assert await _answer(asker, ears[0], agent, heard) is True, "it has not heard it yet"
        async with asyncio.timeout(PATIENCE_S):
            while await _answer(asker, ears[0], agent, heard):
                ears[0].send(agent, own_guard.pack(Heartbeat(3, True, 10.0, EngineWord.RUNNING)))
        async with asyncio.timeout(PATIENCE_S):
            while not await _answer(asker, ears[0], agent, heard):
                pass
        assert any(isinstance(each.message, Told) for each in heard), "its guard is told that it gets on"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for each in ears:
            each.close()


async def _answer(asker: Sender, mouth: Datagrams, to: Address, heard: list[Envelope]) -> bool:
    """What it says of `a` now; it can never seal."""
    async with asyncio.timeout(PATIENCE_S):
        before = len(heard)
        while True:
            mouth.send(to, asker.pack(Ask("a", 3)))
            await asyncio.sleep(0.02)
            answers = [each.message for each in heard[before:] if isinstance(each.message, Answer)]
            if answers:
                assert not answers[-1].can_seal
                return answers[-1].suspects
