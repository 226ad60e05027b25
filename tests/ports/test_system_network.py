"""The machine's network on loopback: datagrams, streams, taken ports."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time
from pathlib import Path

import pytest

from twinstar.model.address import Address
from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports.network import Network
from twinstar.ports.system_network import SystemNetwork
from twinstar.ports.udp import literal_target, plain_address

NETWORK: Network = SystemNetwork()


def free_port(kind: socket.SocketKind, host: str = "127.0.0.1") -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


class Heard:
    def __init__(self) -> None:
        self.data: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()

    def __call__(self, data: bytes, sender: Address) -> None:
        self.data.put_nowait((data, sender))

    async def something(self) -> tuple[bytes, Address]:
        async with asyncio.timeout(20):
            return await self.data.get()


@pytest.mark.parametrize(
    ("bind", "to"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")]
)
async def test_a_datagram_arrives_with_its_senders_address(bind: str, to: str) -> None:
    heard, port = Heard(), free_port(socket.SOCK_DGRAM, bind)
    receiver = await NETWORK.open_datagrams(Address(bind, port), heard)
    sender = await NETWORK.open_datagrams(Address(to, 0), heard)
    try:
        sender.send(Address(to, port), b"hello")
        data, origin = await heard.something()
        assert (data, origin.host) == (b"hello", to)
        receiver.send(origin, b"back")
        assert (await heard.something())[0] == b"back"
    finally:
        receiver.close()
        sender.close()


async def test_a_name_is_resolved_without_blocking_and_then_used() -> None:
    heard, port = Heard(), free_port(socket.SOCK_DGRAM)
    datagrams = await NETWORK.open_datagrams(Address("127.0.0.1", port), heard)
    try:
        datagrams.send(Address("localhost", port), b"too early")  # lost: the name is asked for, the loop goes on
        for _ in range(1_000):
            if not heard.data.empty():
                break
            await asyncio.sleep(0.02)
            datagrams.send(Address("localhost", port), b"known")
        assert (await heard.something())[0] == b"known"
    finally:
        datagrams.close()


async def test_what_cannot_be_sent_is_dropped_silently() -> None:
    datagrams = await NETWORK.open_datagrams(Address("127.0.0.1", 0), Heard())
    datagrams.send(Address("192.0.2.1", 9), b"no route from a loopback socket")
    datagrams.send(Address("no-such-host.invalid", 9), b"no such name")
    datagrams.send(Address("::1", 9), b"another family")
    datagrams.send(Address("127.0.0.1", 9), b"x" * 70_000)
    await asyncio.sleep(0.01)
    datagrams.close()
    datagrams.send(Address("127.0.0.1", 9), b"closed")


async def test_a_taken_udp_port_is_one_sentence() -> None:
    first = await NETWORK.open_datagrams(Address("127.0.0.1", 0), Heard())
    try:
        taken = first.address  # type: ignore[attr-defined]  # of the real network alone
        with pytest.raises(EnvironmentTrouble, match=rf"UDP port {taken.port} on 127.0.0.1 is taken: stop"):
            await NETWORK.open_datagrams(taken, Heard())
    finally:
        first.close()


async def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(EnvironmentTrouble, match="configure an address of this machine"):
        await NETWORK.open_datagrams(Address("192.0.2.1", 9_999), Heard())
    with pytest.raises(EnvironmentTrouble, match="configure an address of this machine"):
        await NETWORK.listen(Address("192.0.2.1", 9_999), echo)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_stream_carries_bytes_without_delay(host: str) -> None:
    address = Address(host, free_port(socket.SOCK_STREAM, host))
    server = await NETWORK.listen(address, echo)
    reader, writer = await NETWORK.dial(address)
    raw = writer.get_extra_info("socket")
    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    writer.close()
    server.close()


async def test_a_taken_tcp_port_is_one_sentence() -> None:
    address = Address("127.0.0.1", free_port(socket.SOCK_STREAM))
    server = await NETWORK.listen(address, echo)
    with pytest.raises(EnvironmentTrouble, match=f"TCP port {address.port} on 127.0.0.1 is taken"):
        await NETWORK.listen(address, echo)
    server.close()


async def test_a_refused_dial_is_an_oserror() -> None:
    with pytest.raises(OSError, match=r".+"):
        await NETWORK.dial(Address("127.0.0.1", free_port(socket.SOCK_STREAM)))


async def test_a_local_socket_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    before = os.umask(0)
    os.umask(before)
    server = await NETWORK.listen_unix(path, echo)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reader, writer = await NETWORK.dial_unix(path)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    writer.close()
    server.close()
    assert os.umask(before) == before


async def test_a_local_socket_left_behind_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = await NETWORK.listen_unix(path, echo)
    with pytest.raises(EnvironmentTrouble, match=r"serves .* already"):
        await NETWORK.listen_unix(path, echo)
    reader, writer = await NETWORK.dial_unix(path)
    writer.write(b"still\n")
    assert await reader.readline() == b"still\n"
    writer.close()
    server.close()


async def test_a_local_socket_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(EnvironmentTrouble, match="is no socket"):
        await NETWORK.listen_unix(file, echo)
    assert file.exists()
    with pytest.raises(EnvironmentTrouble, match="short path"):
        await NETWORK.listen_unix(tmp_path / ("x" * 120), echo)
    with pytest.raises(EnvironmentTrouble, match="short path"):
        await NETWORK.listen_unix(tmp_path / "missing" / "s", echo)


def test_addresses_of_both_families_on_one_socket() -> None:
    assert literal_target(socket.AF_INET6, Address("10.0.0.1", 5)) == ("::ffff:10.0.0.1", 5)
    assert plain_address(("::ffff:10.0.0.1", 5, 0, 0)) == Address("10.0.0.1", 5)
    assert literal_target(socket.AF_INET, Address("db-1.example", 5)) is None


async def test_what_is_not_attended_to_waits_with_its_age() -> None:
    heard: list[tuple[bytes, float]] = []
    late = asyncio.Event()

    def hear(data: bytes, _: Address) -> None:
        heard.append((data, receiver.age_ms))
        if data == b"late":
            late.set()

    receiver = await NETWORK.open_datagrams(Address("127.0.0.1", 0), hear)
    sender = await NETWORK.open_datagrams(Address("127.0.0.1", 0), lambda *_: None)
    try:
        receiver.attend(False)
        sent = time.monotonic()
        sender.send(receiver.address, b"early")  # type: ignore[attr-defined]
        await asyncio.sleep(0.1)
        assert heard == []
        receiver.poll()
        ((data, age_ms),) = heard
        assert data == b"early"
        # What is older than a second is not believed: then it was this process that slept.
        assert 80 <= age_ms <= 1_000 or (age_ms == 0 and time.monotonic() - sent > 1)
        receiver.attend(True)
        sender.send(receiver.address, b"late")  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            await late.wait()
        assert [data for data, _ in heard] == [b"early", b"late"]
    finally:
        receiver.close()
        sender.close()
