"""Ports that nobody listens on, found by binding them."""

from __future__ import annotations

import errno
import random
import socket
from contextlib import ExitStack

from twinstar.model.errors import EnvironmentTrouble

_LOW, _HIGH = 20_000, 30_000
"""Below what Linux hands out to outgoing connections (32768 and up): one of those may take a free port at any time."""


def find_free_ports(host: str, count: int) -> list[int]:
    """`count` ports that are free on `host` for TCP and UDP, ascending, from a random start so that two callers at
    once rarely meet. Raises EnvironmentTrouble when `host` is not this machine's or too few are free.
    """
    # The system's randomness: two processes with the same seed would search from the same port.
    start = random.SystemRandom().randrange(_LOW, _HIGH)
    found: list[int] = []
    with ExitStack() as bound:  # all stay bound until the last is found
        for offset in range(_HIGH - _LOW):
            if len(found) == count:
                return sorted(found)
            port = _LOW + (start - _LOW + offset) % (_HIGH - _LOW)
            if _bind(bound, host, port):
                found.append(port)
    raise EnvironmentTrouble(
        f"Too few ports between {_LOW} and {_HIGH} are free on {host}: write the ports into twinstar.yaml yourself."
    )


def is_taken(host: str, port: int, *, datagrams: bool = False) -> bool:
    """Whether somebody listens on this port already. An address that is not this machine's is not taken."""
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with socket.socket(family, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM) as probe:
            if not datagrams:  # what former connections left behind does not count
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def _bind(bound: ExitStack, host: str, port: int) -> bool:
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with ExitStack() as probes:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                probes.enter_context(socket.socket(family, kind)).bind((host, port))
            bound.push(probes.pop_all())
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise EnvironmentTrouble(f"{host} is no address to listen on here ({error.strerror}): use another.") from None
    return True
