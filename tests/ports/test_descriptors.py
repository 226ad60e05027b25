"""What is asked and said of connections that a library holds, with real sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinstar.ports.descriptors import bound_window, waits

WINDOW_BYTES = 16 * 1024


@contextlib.contextmanager
def connected(source: str = "127.0.0.1", congestion: bytes = b"reno") -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection by TCP on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        here = socket.create_connection(listener.getsockname(), source_address=(source, 0))
        there, _ = listener.accept()
    with here, there:
        here.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion)
        yield here, there


def test_what_has_come_waits_until_it_is_read() -> None:
    with connected() as (here, there):
        assert not waits(here.fileno())
        there.sendall(b"some")
        here.recv(4, socket.MSG_PEEK)
        assert waits(here.fileno())
        here.recv(4)
        assert not waits(here.fileno())


def test_the_window_is_bounded_for_who_is_on_this_machine(tmp_path: Path) -> None:
    with connected() as (here, _):
        assert bound_window(here.fileno(), WINDOW_BYTES)
        # The kernel counts its own needs in.
        assert here.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * WINDOW_BYTES
        here.send(b"open as before")
    with connected(source="127.0.0.2") as (here, _):
        before = here.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert not bound_window(here.fileno(), WINDOW_BYTES)
        assert here.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == before
    one, other = socket.socketpair()
    with one, other:
        assert not bound_window(one.fileno(), WINDOW_BYTES)


def test_the_window_stays_where_the_sender_is_paced() -> None:
    if "bbr" not in Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split():
        pytest.skip("this kernel has no BBR")
    with connected(congestion=b"bbr") as (here, _):
        assert not bound_window(here.fileno(), WINDOW_BYTES)


def test_messages_without_room_leave_together() -> None:
    """That is what it is for: so many small messages, read now and then, are a fraction of so many packets, which they
    are not where there is much room.
    """
    count, message = 20_000, b"m" * 80
    with connected() as (here, there):
        here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        assert bound_window(here.fileno(), WINDOW_BYTES)
        sending = threading.Thread(target=send, args=(there, message, count))
        sending.start()
        here.setblocking(False)
        left = count * len(message)
        while left:
            time.sleep(0.01)
            with contextlib.suppress(BlockingIOError):
                while left:
                    left -= len(here.recv(1024 * 1024))
        sending.join()
        assert packets(here) < count / 10


def send(end: socket.socket, message: bytes, count: int) -> None:
    for _ in range(count):
        end.sendall(message)


def packets(of: socket.socket) -> int:
    """`tcpi_segs_in` of Linux's `struct tcp_info`."""
    found: int = struct.unpack_from("I", of.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232), 140)[0]
    return found
