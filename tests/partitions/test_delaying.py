"""Regions with a round trip between them: what goes from one to another is late, and nothing else changes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.partitions.test_namespaces import PORT, hears, is_deaf, listener
from twinstar.cli.namespaces import Far, Network, network
from twinstar.model.errors import EnvironmentTrouble

RTT_MS = 120.0


@pytest.fixture
def net() -> Iterator[Network]:
    """`a` and `b` are in one region, `c` is in another, and who is in none is with `a`."""
    try:
        with network(["a", "b", "c", "d"], Far(RTT_MS, {"a": "here", "b": "here", "c": "there"})) as made:
            yield made
    except EnvironmentTrouble as trouble:
        pytest.skip(str(trouble))


def round_trip_ms(net: Network, caller: str, called: str, sent: bytes = b"word") -> float:
    """Of one connection's request and answer, after it has been opened."""
    with listener(net, called, socket.SOCK_STREAM) as ear:
        ear.listen()
        with net.inside(caller):
            asking = socket.create_connection((net.address(called), PORT), timeout=10)
        with asking, ear.accept()[0] as answering:
            began = time.monotonic()
            sending = threading.Thread(target=asking.sendall, args=(sent,))
            sending.start()
            received = b""
            while len(received) < len(sent):
                received += answering.recv(1 << 16)
            sending.join()
            assert received == sent, "in order, and whole"
            answering.sendall(b"x")
            assert asking.recv(1) == b"x"
            return (time.monotonic() - began) * 1000


def test_between_regions_a_round_trip_lasts_as_long_as_it_was_told_to(net: Network) -> None:
    assert round_trip_ms(net, "a", "c") >= RTT_MS
    assert round_trip_ms(net, "c", "b") >= RTT_MS
    assert round_trip_ms(net, "d", "c") >= RTT_MS


def test_within_a_region_nothing_is_delayed(net: Network) -> None:
    """Of several: the machine may be busy."""
    assert min(round_trip_ms(net, "a", "b") for _ in range(5)) < RTT_MS / 2
    assert min(round_trip_ms(net, "d", "a") for _ in range(5)) < RTT_MS / 2


def test_what_takes_many_frames_arrives_whole(net: Network) -> None:
    assert round_trip_ms(net, "a", "c", bytes(range(256)) * 8192) >= RTT_MS


def test_cuts_are_silence_here_as_well(net: Network) -> None:
    assert hears(net, "a", "c")
    net.cut([("a", "c")])
    assert is_deaf(net, "c", to="a")
    assert hears(net, "c", "a")
    net.join()
    assert hears(net, "a", "c")
