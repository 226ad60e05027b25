"""The guard's senses and hands: one UDP socket, process ends through pidfds, one database test at a time, the clock.

A loop on `select` alone: asyncio would cost the guard more memory than the rest of it together. Datagrams wake nobody:
they wait in the socket until the next heartbeat is due or something ends. A wake-up costs more than reading does, and
nothing a guard is told is worth one: it is read before each decision anyway.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass

from twinstar.model.address import Address
from twinstar.ports import procfs
from twinstar.ports.udp import LARGEST_DATAGRAM, literal_target, resolve, udp_socket

_DATAGRAMS_PER_WAKE = 256
_NAME_KEPT_MS = 10_000
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""The first message a PostgreSQL client may send; the main process's new child answers with one byte."""


@dataclass(frozen=True, slots=True)
class Woken:
    """What there is after a wait. Datagrams come first: what they say may spare a fence."""

    datagrams: tuple[bytes, ...]
    ended_runs: tuple[str, ...]
    answered: bool | None
    """The outcome of the database's test, None while there is none."""


class GuardIo:
    """Raises EnvironmentTrouble when the port is taken."""

    def __init__(self, bind: Address) -> None:
        self._socket = udp_socket(bind)
        self._poll = select.epoll()
        self._watched: dict[int, str] = {}
        self._to_watch: list[str] = []
        self._literals: dict[Address, tuple[str, int]] = {}
        self._names: dict[Address, tuple[float, tuple[str, int] | None]] = {}
        self._test: _Test | None = None

    def now_ms(self) -> float:
        """The boot clock: never goes back, counts suspend; the one that leases are counted on."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    # -- the network ---------------------------------------------------------------------------------------------------

    def send(self, to: Address, data: bytes) -> None:
        """Sends, or drops silently: that is what the network does as well."""
        target = self._literals.get(to) or self._target(to)
        if target is None:
            return
        try:
            self._socket.sendto(data, target)
        except OSError:  # no route, no buffer: a datagram lost, like any other
            return

    def _target(self, to: Address) -> tuple[str, int] | None:
        literal = literal_target(self._socket.family, to)
        if literal is None:
            return self._target_of_name(to)
        self._literals[to] = literal
        return literal

    def _target_of_name(self, to: Address) -> tuple[str, int] | None:
        """What the name last stood for. A thread asks: a hanging name service must not stop the heartbeats."""
        due_ms, target = self._names.get(to, (0.0, None))
        if self.now_ms() >= due_ms:
            self._names[to] = (self.now_ms() + _NAME_KEPT_MS, target)
            try:
                _thread.start_new_thread(self._ask_name_service, (to,))
            except RuntimeError:  # no thread to be had now: asked again later
                return target
        return target

    def _ask_name_service(self, to: Address) -> None:
        try:
            self._names[to] = (self.now_ms() + _NAME_KEPT_MS, resolve(self._socket.family, to))
        except OSError:  # keeps what was known, asks again later
            return

    # -- processes -----------------------------------------------------------------------------------------------------

    def watch(self, run: str) -> None:
        """Reports the end of this run in a later `wait`; in the next one when it has ended already."""
        self._to_watch.append(run)

    def _begin_watches(self) -> list[str]:
        """The runs among those to be watched that have ended already."""
        runs, self._to_watch = self._to_watch, []
        ended = []
        for run in runs:
            try:
                if not self._begin_watch(run):
                    ended.append(run)
            except OSError:  # no descriptor or no memory left: that proves no death, so it is tried again
                self._to_watch.append(run)
        return ended

    def _begin_watch(self, run: str) -> bool:
        pid = procfs.pid_of(run)
        if pid is None:
            return False
        try:
            handle = procfs.open_pidfd(pid)
        except ProcessLookupError:
            return False
        try:
            # Asked after the descriptor was opened: from there on the pid cannot become another process unseen.
            if procfs.is_running(run):
                self._poll.register(handle, select.EPOLLIN)
                self._watched[handle] = run
                return True
        finally:
            if handle not in self._watched:
                os.close(handle)
        return False

    def _reap(self, handle: int) -> str:
        self._poll.unregister(handle)
        os.close(handle)
        return self._watched.pop(handle)

    # -- the database's test -------------------------------------------------------------------------------------------

    def test(self, target: str | Address, deadline_ms: float) -> None:
        """Begins a test of the database: a fresh connection must answer with one byte by the deadline."""
        if self._test is not None:
            return
        family = socket.AF_UNIX
        where: str | tuple[str, int] | None = target if isinstance(target, str) else None
        if isinstance(target, Address):
            family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
            where = literal_target(family, target) or self._target_of_name(target)
        if where is None:  # the name is not known yet: no finding
            return
        try:
            self._test = _Test(family, where, self.now_ms() + deadline_ms)
        except OSError:  # no descriptor left: no finding either
            return
        if self._test.answered is None:
            self._poll.register(self._test.socket, select.EPOLLOUT)

    def _finish_test(self) -> bool | None:
        test = self._test
        if test is None or (test.answered is None and self.now_ms() < test.until_ms):
            return None
        test.socket.close()  # and with it leaves the poll
        self._test = None
        return test.answered is True

    # -- waiting -------------------------------------------------------------------------------------------------------

    def wait(self, until_ms: float) -> Woken:
        """Returns at `until_ms`, or earlier when a watched process has ended or the test has."""
        if self._test is not None:
            until_ms = self.now_ms() if self._test.answered is not None else min(until_ms, self._test.until_ms)
        gone = self._begin_watches()
        timeout_s = 0.0 if gone else max(0.0, (until_ms - self.now_ms()) / 1000)
        handles = {handle for handle, _ in self._poll.poll(timeout_s)}
        ended = [self._reap(handle) for handle in handles & self._watched.keys()]
        if self._test is not None and self._test.socket.fileno() in handles:
            self._test.go_on(self._poll)
        return Woken(self._datagrams(), (*gone, *ended), self._finish_test())

    def _datagrams(self) -> tuple[bytes, ...]:
        found: list[bytes] = []
        while len(found) < _DATAGRAMS_PER_WAKE:
            try:
                found.append(self._socket.recv(LARGEST_DATAGRAM))
            except BlockingIOError:
                break
            except OSError:  # an earlier datagram of ours was refused by its receiver
                continue
        return tuple(found)


class _Test:
    """One connection: established, asked, answered. `answered` is None while that is open."""

    def __init__(self, family: int, where: str | tuple[str, int], until_ms: float) -> None:
        self.until_ms = until_ms
        self.answered: bool | None = None
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self._asked = False
        try:
            self.socket.connect(where)
        except BlockingIOError:
            # TCP: under way. A Unix socket says so when its queue is full: nobody accepts, which is the finding.
            self.answered = False if family == socket.AF_UNIX else None
        except OSError:
            self.answered = False

    def go_on(self, poll: select.epoll) -> None:
        try:
            if self._asked:
                self.answered = self.socket.recv(1) in (b"S", b"N", b"E")
            else:
                self.socket.sendall(_SSL_REQUEST)
                poll.modify(self.socket, select.EPOLLIN)
                self._asked = True
        except OSError:
            self.answered = False


def settle_process() -> None:
    """Ctrl-C ends the guard without a traceback; the kernel's memory killer passes it over, where that is allowed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("-900")
    except OSError:  # needs privileges; the guard works without
        return


def log(sentence: str) -> None:
    """One line on standard error, with the time; dropped when nobody reads there, for that must not stop the guard."""
    try:
        if select.select([], [sys.stderr], [], 0)[1]:
            sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} guard: {sentence}\n")
            sys.stderr.flush()
    except (OSError, ValueError):  # closed
        return
