"""What asyncio's network and the guard's have in common: UDP sockets, addresses, and a sentence for a taken port."""

from __future__ import annotations

import errno
import socket

from twinstar.model.address import Address
from twinstar.model.errors import EnvironmentTrouble

LARGEST_DATAGRAM = 65_536


def udp_socket(bind: Address) -> socket.socket:
    """A bound, non-blocking UDP socket; on ``::`` it takes IPv4 as well. Raises EnvironmentTrouble.

    Resolves `bind.host`, which may block when it is a name.
    """
    try:
        family, *_, target = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)[
            0
        ]
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        raise bind_trouble(bind, "UDP", error) from error
    try:
        if family == socket.AF_INET6 and bind.host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setblocking(False)
        sock.bind(target)
    except OSError as error:
        sock.close()
        raise bind_trouble(bind, "UDP", error) from error
    return sock


def literal_target(family: int, to: Address) -> tuple[str, int] | None:
    """`to` as a socket of this family takes it, None when its host is a name."""
    if _is_literal(socket.AF_INET, to.host):
        return (f"::ffff:{to.host}", to.port) if family == socket.AF_INET6 else (to.host, to.port)
    if ":" in to.host:  # no name has a colon; a scope such as fe80::1%eth0 is left to the system
        return (to.host, to.port)
    return None


def resolve(family: int, to: Address) -> tuple[str, int]:
    """Asks the name service, which may block for seconds. Raises OSError."""
    flags = socket.AI_V4MAPPED if family == socket.AF_INET6 else 0
    found = socket.getaddrinfo(to.host, to.port, family=family, type=socket.SOCK_DGRAM, flags=flags)
    return (str(found[0][4][0]), to.port)


def plain_address(raw: tuple[object, ...]) -> Address:
    """What the socket module calls an address, with IPv4 addresses written as such on a dual-stack socket."""
    return Address(str(raw[0]).removeprefix("::ffff:"), int(str(raw[1])))


def bind_trouble(bind: Address, kind: str, error: OSError) -> EnvironmentTrouble:
    """One sentence for a port that cannot be had."""
    if error.errno == errno.EADDRINUSE:
        return EnvironmentTrouble(
            f"{kind} port {bind.port} on {bind.host} is taken: stop the program that holds it "
            f"(`ss -anp 'sport = :{bind.port}'` names it) or configure another port."
        )
    if error.errno == errno.EACCES:
        return EnvironmentTrouble(f"{kind} port {bind.port} needs privileges: configure one from 1024 on.")
    return EnvironmentTrouble(
        f"{kind} {bind} cannot be used ({error.strerror or error}): configure an address of this machine."
    )


def _is_literal(family: int, host: str) -> bool:
    try:
        socket.inet_pton(family, host)
    except OSError:
        return False
    return True
