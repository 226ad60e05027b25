"""Cuts between namespaces, seen with datagrams and connections."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinstar.cli.namespaces import Network, network
from twinstar.model.errors import EnvironmentTrouble

PORT = 4_000


@pytest.fixture
def net() -> Iterator[Network]:
    try:
        with network(["a", "b", "c"]) as made:
            yield made
    except EnvironmentTrouble as trouble:
        pytest.skip(str(trouble))


def listener(net: Network, host: str, kind: socket.SocketKind) -> socket.socket:
    with net.inside(host):
        ear = socket.socket(socket.AF_INET, kind)
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ear.bind((net.address(host), PORT))
        ear.settimeout(10)
        return ear


def hears(net: Network, sender: str, receiver: str) -> bool:
    """Within as long as a busy machine may need."""
    return _hears(net, sender, receiver, 10)


def is_deaf(net: Network, host: str, *, to: str) -> bool:
    return not _hears(net, to, host, 0.3)


def _hears(net: Network, sender: str, receiver: str, patience_s: float) -> bool:
    with listener(net, receiver, socket.SOCK_DGRAM) as ear:
        ear.settimeout(patience_s)
        with net.inside(sender), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
            mouth.sendto(b"word", (net.address(receiver), PORT))
        try:
            return ear.recv(4) == b"word"
        except TimeoutError:
            return False


def test_hosts_reach_each_other_and_the_machine_has_nothing_of_it(net: Network) -> None:
    assert hears(net, "a", "b")
    assert hears(net, "c", "a")
    with net.inside("a"):
        assert {name for _, name in socket.if_nameindex()} >= {"lo", "eth0"}
        inside = socket.if_nameindex()
    assert socket.if_nameindex() != inside
    assert not {"bridge", "port0"} & {name for _, name in socket.if_nameindex()}


def test_a_cut_has_one_direction_and_concerns_nobody_else(net: Network) -> None:
    net.cut([("a", "b")])
    assert is_deaf(net, "b", to="a")
    assert hears(net, "b", "a")
    assert hears(net, "a", "c")
    net.join([("a", "b")])
    assert hears(net, "a", "b")


def test_a_cut_is_silence_to_a_connection_which_goes_on_when_it_is_over(net: Network) -> None:
    with listener(net, "b", socket.SOCK_STREAM) as ear:
        ear.listen()
        with net.inside("a"):
            caller = socket.create_connection((net.address("b"), PORT), timeout=10)
        with caller, ear.accept()[0] as called:
            called.settimeout(0.3)
            net.cut(net.apart("a"))
            caller.sendall(b"word")
            with pytest.raises(TimeoutError):
                called.recv(4)
            net.join()
            called.settimeout(10)
            assert called.recv(4) == b"word"


def fail_inside(tokens: list[str]) -> None:
    with network(["a"]) as made:
        tokens.append(made.token)
        assert list(Path("/run/netns").glob(f"*{made.token}*"))
        raise KeyError


def test_nothing_is_left_of_it_whatever_happens(net: Network) -> None:
    tokens: list[str] = []
    with pytest.raises(KeyError):
        fail_inside(tokens)
    assert not list(Path("/run/netns").glob(f"*{tokens[0]}*"))


def test_boot_clocks_are_days_apart(net: Network) -> None:
    if not net.clocks:
        pytest.skip("no time namespaces: a kernel since 5.6 and root have them")
    here, a, b = (seconds_since_boot(prefix) for prefix in ((), net.enter("a"), net.enter("b")))
    assert a - here > 80_000
    assert b - a > 80_000


def seconds_since_boot(prefix: tuple[str, ...]) -> float:
    return float(subprocess.run((*prefix, "cat", "/proc/uptime"), capture_output=True, text=True).stdout.split()[0])
