"""Connections that a library holds and shows only the descriptor of."""

from __future__ import annotations

import os
import socket
from array import array
from fcntl import ioctl
from termios import FIONREAD

_PACING = b"bbr"


def waits(descriptor: int) -> bool:
    """Whether the system holds something that has come and was not read."""
    count = array("i", [0])
    ioctl(descriptor, FIONREAD, count)
    return count[0] > 0


def bound_window(descriptor: int, window_bytes: int) -> bool:
    """Bounds for how much there is room at this end, if the other end is on this machine as well: whether it did.

    Within one machine a message for which there is room is delivered while it is sent, as a packet of its own, which
    costs whoever sends more than the message itself; those for which there is none wait at its end and leave together.
    Between machines they wait for the wire anyway (`tcp_autocorking`), and need room for what is under way; where the
    congestion control paces, they wait for that, and room is to be had for all that is then let go.
    """
    with socket.socket(fileno=os.dup(descriptor)) as own:
        if own.family == socket.AF_UNIX or own.getpeername()[0] != own.getsockname()[0]:
            return False
        # The other end's is this one's, unless its program has chosen another one.
        if own.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == _PACING:
            return False
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
        return True
