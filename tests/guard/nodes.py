"""A real guard process, a stand-in for a database, and the sockets of the agents that hear the guard."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from twinstar.guard.settings import GuardPeer, GuardSettings
from twinstar.model.address import Address
from twinstar.model.starts import Starts
from twinstar.model.wire import EngineWord, EpochNotice, Heartbeat, Inbox, Message, Part, Sender, Told
from twinstar.ports import procfs

SECRET = b"shared by the cluster"
SOURCE = Path(__file__).parents[2] / "src"
PATIENCE_S = 20


def boot_ms() -> float:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.005)


class Ear:
    """A UDP socket on which an agent hears, and says things to the guard."""

    def __init__(self, member: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(PATIENCE_S)
        self.address = Address("127.0.0.1", self._socket.getsockname()[1])
        self.guard: Address | None = None
        """Where the node's guard hears."""
        self._member = member
        self.begin(time.time_ns() // 1_000_000)

    def begin(self, boot: int) -> None:
        """It starts, and remembers neither others' starts nor its own."""
        self.sender, self._inbox = Sender("c", SECRET, self._member, Part.AGENT, boot), Inbox("c", SECRET)
        self._starts = Starts(self.sender, self._inbox, lambda *_: self.guard, self._send, lambda _: True)

    def hear_guard_of(self, boot: int) -> None:
        """As if an earlier start of the node's guard had spoken."""
        earlier = Sender("c", SECRET, "a", Part.GUARD, boot)
        assert self._inbox.open(earlier.pack(Heartbeat(0, False, 0.0, EngineWord.UNKNOWN))) is not None

    def _send(self, to: Address, data: bytes) -> None:
        self._socket.sendto(data, (to.host, to.port))

    def say(self, to: Address, message: Message) -> None:
        self._send(to, self.sender.pack(message))

    def next_heartbeat(self) -> Heartbeat:
        while True:
            envelope = self._starts.open(self._socket.recv(65_536), boot_ms())
            if envelope is not None and isinstance(envelope.message, Heartbeat):
                return envelope.message

    def words_until(self, last: EngineWord) -> list[EngineWord]:
        """The words heard from here on, without repetitions, up to `last`."""
        words: list[EngineWord] = []
        deadline = time.monotonic() + PATIENCE_S
        while last not in words:
            assert time.monotonic() < deadline, f"{last} was not said, but {words}"
            word = self.next_heartbeat().engine
            if word not in words[-1:]:
                words.append(word)
        return words

    def heartbeat_of(self, word: EngineWord) -> Heartbeat:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            heartbeat = self.next_heartbeat()
            if heartbeat.engine is word:
                return heartbeat
            assert time.monotonic() < deadline, f"{word} was not said, but {heartbeat}"

    def forget(self) -> None:
        """Drops what has arrived so far."""
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(65_536)
        except BlockingIOError:
            self._socket.settimeout(PATIENCE_S)

    def close(self) -> None:
        self._socket.close()


class Node:
    """One member: its directory, its guard, its database's stand-in. Ends what it started."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.data.mkdir()
        secret = directory / "secret"
        secret.write_bytes(SECRET + b"\n")
        self._settings_file = directory / "guard.json"
        self._log = directory / "guard.log"
        self.agent, self.peer = Ear("a"), Ear("b")
        self.settings = GuardSettings(
            cluster="c",
            member="a",
            secret_file=str(secret),
            bind=Address("127.0.0.1", free_udp_port()),
            agent=self.agent.address,
            data_directory=str(self.data),
            state_file=str(directory / "guard.state"),
            peers=(GuardPeer("b", self.peer.address, Address("127.0.0.1", free_udp_port())),),
            heartbeat_ms=20,
            guard_grace_ms=400,
            agent_silent_ms=400,
            hung_query_ms=200,
        )
        self.agent.guard = self.peer.guard = self.settings.bind
        self._guard: subprocess.Popen[bytes] | None = None
        self._databases: list[subprocess.Popen[bytes]] = []

    def start_guard(self, **changes: Any) -> None:
        """Returns when the guard hears."""
        self.peer.forget()
        self.settings = replace(self.settings, **changes)
        self._settings_file.write_text(self.settings.to_json())
        with self._log.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-m", "twinstar.guard", str(self._settings_file)],
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
                stderr=log,
                start_new_session=True,
            )
        self.peer.next_heartbeat()

    @property
    def guard_pid(self) -> int:
        assert self._guard is not None
        return self._guard.pid

    def kill_guard(self) -> None:
        assert self._guard is not None
        assert self._guard.poll() is None, self._log.read_text()
        self._guard.kill()
        self._guard.wait()

    def start_database(self, script: str = "sleep 600 & sleep 600 & wait") -> str:
        """A main process with children, all in the data directory; returns its run once its pid file is there.

        It is never reaped before the end of the test, as in a container whose first process does not reap.
        """
        pid_file = self.data / "postmaster.pid"
        pid_file.unlink(missing_ok=True)
        main = subprocess.Popen(
            ["/bin/sh", "-c", f"echo $$ > .pid && mv .pid postmaster.pid; {script}"],
            cwd=self.data,
            start_new_session=True,
        )
        self._databases.append(main)
        until(pid_file.exists, "the stand-in's pid file")
        until(lambda: len(procfs.descendants_of(main.pid)) == script.count("& "), "the stand-in's children")
        run = procfs.run_id(main.pid)
        assert run is not None
        return run

    def tell(self, run: str, epoch: int = 3, leading: bool = True, stopping: bool = False, **more: Any) -> None:
        told = Told(epoch, leading, run, stopping, **{"register_epoch": epoch, **more})
        self.agent.say(self.settings.bind, told)

    def notice(self, epoch: int) -> None:
        self.peer.say(self.settings.bind, EpochNotice(epoch, "b"))

    def living(self) -> int:
        return len(procfs.of_directory(self.data))

    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        if self._guard is not None and self._guard.poll() is None:
            self._guard.kill()
        if self._guard is not None:
            self._guard.wait()
        while self.living():
            procfs.kill_pids(process.pid for process in procfs.of_directory(self.data))
            time.sleep(0.002)
        for main in self._databases:
            procfs.kill_run(procfs.run_id(main.pid) or "", signal.SIGKILL)
            main.wait()
        self.agent.close()
        self.peer.close()


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
