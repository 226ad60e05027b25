"""Ports that nobody listens on, found by binding them.

Between being found and being used a port is free for everybody, for seconds if a database is made first. So ports are
given out by blocks, and a process that is given one claims it: a name in Linux's abstract namespace of local sockets,
which belongs to one process at a time, in each network namespace, and ends with it.
"""

from __future__ import annotations

import errno
import os
import random
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack

from twinstar.model.errors import EnvironmentTrouble

_LOW, _HIGH = 20_000, 30_000
"""Below what Linux hands out to outgoing connections (32768 and up): one of those may take a free port at any time."""
_BLOCK = 40
_KEPT = 16
"""So many claims a process keeps, the latest: who looks for ports that often uses the first ones by then."""
_claims: deque[int] = deque()
"""Descriptors."""


def find_free_ports(host: str, count: int) -> list[int]:
    """`count` ports that are free on `host` for TCP and UDP, ascending; no other process is given them by this while
    this one lives. Raises EnvironmentTrouble when `host` is not this machine's or too few are free.
    """
    for ports in _claimed(count):
        found = [port for port in ports if _is_free(host, port)]
        if len(found) >= count:
            return found[:count]
    raise EnvironmentTrouble(
        f"Too few ports between {_LOW} and {_HIGH} are free on {host}: write the ports into twinstar.yaml yourself."
    )


def find_ports_in_a_row(host: str, count: int) -> int:
    """The first of `count` ports in a row that are free on `host`, given as by `find_free_ports`. Raises
    EnvironmentTrouble.
    """
    for ports in _claimed(count):
        for first in ports[: len(ports) - count + 1]:
            if all(_is_free(host, port) for port in range(first, first + count)):
                return first
    raise EnvironmentTrouble(
        f"Nowhere between {_LOW} and {_HIGH} are {count} ports in a row free on {host}: end what holds them, or write "
        "the ports into twinstar.yaml yourself."
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


def _claimed(count: int) -> Iterator[range]:
    """Ports in a row, at least `count`, that this process claims; from a random place on, so that they differ from what
    was given lately."""
    width = -(-count // _BLOCK) * _BLOCK
    starts = range(_LOW, _HIGH - width + 1, _BLOCK)
    # The system's randomness: two processes with the same seed would search from the same place.
    first = random.SystemRandom().randrange(max(1, len(starts)))
    for start in (*starts[first:], *starts[:first]):
        if all(_claim(block) for block in range(start, start + width, _BLOCK)):
            yield range(start, start + width)


def _claim(block: int) -> bool:
    """False when somebody has it already, be it this process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as claim:
        try:
            claim.bind(f"\0twinstar-ports-{block}")
        except OSError:
            return False
        _claims.append(claim.detach())
    if len(_claims) > _KEPT:
        os.close(_claims.popleft())
    return True


def _is_free(host: str, port: int) -> bool:
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with ExitStack() as bound:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                bound.enter_context(socket.socket(family, kind)).bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise EnvironmentTrouble(f"{host} is no address to listen on here ({error.strerror}): use another.") from None
    return True
