"""A switch for the hosts of a network that delays what goes between regions: ``python -m twinstar.cli.delaying``.

Each host's `eth0` is a TAP device, and this process holds the other end of all of them: a frame goes to the host whose
hardware address it carries, at once within a region, half a round trip later between two. So everything that nodes say
to each other is late, whatever the protocol: replication, the agents' HTTP, the store's, and heartbeats. Nothing is
lost, and nothing overtakes anything. What nobody's hardware address is goes nowhere, which is what cuts are made of.

The job comes as one JSON line on standard input; ``ready`` is said once all devices are there. The end of the input is
the end.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import struct
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path

from twinstar.cli.entering import move_to

DEVICE = "eth0"
_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_FRAME = 1 << 16
_AT_ONCE = 64
"""Frames of one host before the others have their turn."""
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Host:
    """`hardware`: its address as text. Hosts of one region are near each other."""

    namespace: str
    hardware: str
    region: str


@dataclass(frozen=True, slots=True)
class Job:
    hosts: tuple[Host, ...]
    one_way_ms: float

    def text(self) -> str:
        return json.dumps(asdict(self))


class Switch:
    """Holds the devices. Since every delayed frame is delayed by as much, one queue keeps the order."""

    def __init__(self, job: Job) -> None:
        self._devices = [_tap(host) for host in job.hosts]
        self._regions = {device: host.region for device, host in zip(self._devices, job.hosts, strict=True)}
        known = (bytes.fromhex(host.hardware.replace(":", "")) for host in job.hosts)
        self._known = dict(zip(known, self._devices, strict=True))
        self._delay_ns = round(job.one_way_ms * _NS_PER_MS)
        self._waiting: deque[tuple[int, int, bytes]] = deque()

    def run(self, until_readable: int) -> None:
        """Until the other end of this descriptor is closed."""
        poll = select.epoll()
        for descriptor in (*self._devices, until_readable):
            poll.register(descriptor, select.EPOLLIN)
        while True:
            for descriptor, _ in poll.poll(self._patience_s()):
                if descriptor == until_readable:
                    return
                self._take(descriptor)
            self._deliver()

    def _patience_s(self) -> float:
        if not self._waiting:
            return -1
        return max(0.0, (self._waiting[0][0] - time.monotonic_ns()) / 1e9)

    def _take(self, device: int) -> None:
        for _ in range(_AT_ONCE):
            try:
                frame = os.read(device, _FRAME)
            except BlockingIOError:
                return
            receiver = self._known.get(frame[:6])
            if receiver is None:
                continue
            if self._regions[receiver] == self._regions[device]:
                _send(receiver, frame)
            else:
                self._waiting.append((time.monotonic_ns() + self._delay_ns, receiver, frame))

    def _deliver(self) -> None:
        now = time.monotonic_ns()
        while self._waiting and self._waiting[0][0] <= now:
            _, receiver, frame = self._waiting.popleft()
            _send(receiver, frame)


def _send(device: int, frame: bytes) -> None:
    try:
        os.write(device, frame)
    except OSError:
        pass  # The device is down, or its queue is full: a frame is lost, as in any network.


def _tap(host: Host) -> int:
    """A device in the host's namespace. Its descriptor stays good when this process has left it."""
    move_to(Path(host.namespace))
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TAP | _IFF_NO_PI))
    return device


def main() -> None:
    raw = json.loads(sys.stdin.readline())
    try:
        switch = Switch(Job(tuple(Host(**host) for host in raw["hosts"]), raw["one_way_ms"]))
    except OSError as trouble:
        sys.stderr.write(f"{trouble.strerror}\n")
        sys.exit(1)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    switch.run(sys.stdin.fileno())


if __name__ == "__main__":
    main()
