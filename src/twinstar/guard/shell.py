"""Does what the core wants, with real processes, sockets and files."""

from __future__ import annotations

import json
import os
from collections import deque
from dataclasses import replace

from twinstar.guard.core import (
    Effect,
    Ended,
    Event,
    GuardCore,
    Knock,
    Knocked,
    Look,
    Note,
    Received,
    Record,
    Remember,
    Seen,
    Send,
    Sweep,
    Swept,
    Tick,
    Watch,
)
from twinstar.guard.settings import GuardSettings
from twinstar.model.errors import UsageError
from twinstar.model.starts import Starts
from twinstar.model.wire import Inbox, Part, Sender
from twinstar.ports import procfs
from twinstar.ports.guard_io import GuardIo, log


class Shell:
    """One guard at work. Raises UsageError (secret) and EnvironmentTrouble (port) when it cannot begin."""

    def __init__(self, settings: GuardSettings) -> None:
        secret = _read_secret(settings.secret_file)
        self._settings, self._pid = settings, os.getpid()
        self._io = GuardIo(settings.bind)
        record, last_boot = _recall(settings.state_file)
        # The others refuse an earlier boot than they have heard of: ours grows even when the clock was set back.
        self._boot = max(self._io.wall_ms(), last_boot + 1)
        self._sender = Sender(settings.cluster, secret, settings.member, Part.GUARD, self._boot)
        inbox = Inbox(settings.cluster, secret)
        self._starts = Starts(self._sender, inbox, settings.address_of, self._io.send, self._start_as)
        self._core = GuardCore(settings, self._io.now_ms(), record)
        self._strays: set[str] = set()
        self._blind = False
        self._keep(record)

    def run(self) -> None:
        """For ever."""
        while True:
            self.turn()

    def turn(self) -> None:
        """One wake-up: what arrived is delivered before time passes, since it may spare a fence."""
        woken = self._io.wait(self._core.next_wake_ms())
        for data in woken.datagrams:
            envelope = self._starts.open(data, self._io.now_ms())
            if envelope is not None:
                self._step(Received(envelope))
        for run in woken.ended_runs:
            self._step(Ended(run))
        if woken.answered is not None:
            self._step(Knocked(woken.answered))
        self._step(Tick())

    def _step(self, first: Event) -> None:
        events = deque([first])
        while events:
            for effect in self._core.step(events.popleft(), self._io.now_ms()):
                answer = self._do(effect)
                if answer is not None:
                    events.append(answer)

    def _do(self, effect: Effect) -> Event | None:
        match effect:
            case Send():
                self._send(effect)
            case Look():
                return self._look()
            case Watch(run):
                self._io.watch(run)
            case Sweep(run, kill):
                return self._try_to_sweep(run, kill)
            case Knock():
                return self._test()
            case Remember(record):
                self._keep(record)
            case Note(sentence):
                log(sentence)
        return None

    def _send(self, effect: Send) -> None:
        data = self._sender.pack(replace(effect.heartbeat, pid=self._pid))
        for peer in self._settings.peers:
            self._io.send(peer.agent, data)
        if not effect.widely:
            return
        self._io.send(self._settings.agent, data)
        for peer in self._settings.peers:
            self._io.send(peer.guard, data)

    def _look(self) -> Event | None:
        try:
            run = self._run_by_pid_file()
        except OSError:  # the next heartbeat looks again
            return None
        return Seen(run) if run else None

    def _run_by_pid_file(self) -> str | None:
        pid = _read_pid(f"{self._settings.data_directory}/{self._settings.pid_file}")
        if pid is None or not procfs.stands_in(pid, self._settings.data_directory):
            return None
        return procfs.run_id(pid)

    def _try_to_sweep(self, run: str, kill: bool) -> Event:
        try:
            event = self._sweep(run, kill)
        except OSError as error:  # who cannot look must not say that nobody is there
            if not self._blind:
                log(f"the database's processes cannot be looked at ({error.strerror}): trying again and again")
            self._blind = True
            return Swept(1)
        self._blind = False
        return event

    def _sweep(self, run: str, kill: bool) -> Event:
        newer = self._run_by_pid_file()
        if newer is not None and newer != run:
            self._strays.clear()
            return Seen(newer)
        main = procfs.pid_of(run)
        if main is not None and procfs.is_running(run) and procfs.stands_in(main, self._settings.data_directory):
            # Archive commands and the like may stand elsewhere; they are only found while their parents live.
            found = (procfs.run_id(pid) for pid in procfs.descendants_of(main))
            self._strays.update(each for each in found if each)
            self._strays.add(run)
        here = tuple(process.pid for process in procfs.of_directory(self._settings.data_directory))
        refused = procfs.kill_pids(here) if kill else ()
        self._strays = {each for each in self._strays if procfs.is_running(each)}
        if kill:
            refused += tuple(pid for each in self._strays if (pid := _end(each)))
        elsewhere = {procfs.pid_of(each) for each in self._strays}.difference(here)
        return Swept(len(here) + len(elsewhere), refused[0] if refused else 0)

    def _test(self) -> Event | None:
        target = self._settings.database_socket or self._settings.database
        if target:
            self._io.test(target, self._settings.hung_query_ms)
        return None

    def _start_as(self, boot: int) -> bool:
        """What cannot be written down is used all the same: a guard that starts without it is told again."""
        self._boot = boot
        self._keep(self._record)
        log(f"others know a later start of this guard, so its clock is behind: it goes on as start {boot}")
        return True

    def _keep(self, record: Record) -> None:
        self._record = record
        document = {
            "boot": self._boot,
            "run": record.run,
            "epoch": record.epoch,
            "leading": record.leading,
            "lease_until_ms": record.lease_until_ms,
        }
        path = self._settings.state_file
        try:
            with open(f"{path}.new", "w", encoding="utf-8") as file:
                json.dump(document, file)
            os.replace(f"{path}.new", path)  # noqa: PTH105 - pathlib would cost the guard a megabyte
        except OSError as error:
            log(f"{path} cannot be written ({error.strerror}): a restarted guard will not know what it was told")


def _recall(path: str) -> tuple[Record, int]:
    """What the last guard here remembered, and its boot. A file that is missing or damaged is an empty memory."""
    try:
        with open(path, encoding="utf-8") as file:
            raw = json.load(file)
        record = Record(str(raw["run"]), int(raw["epoch"]), raw["leading"] is True, float(raw["lease_until_ms"]))
        return record, int(raw["boot"])
    except FileNotFoundError:
        return Record(), 0
    except (OSError, ValueError, TypeError, KeyError) as error:
        log(f"{path} cannot be read ({error}): beginning without a memory")
        return Record(), 0


def _read_secret(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            secret = file.read().strip()
    except OSError as error:
        raise UsageError(
            f"The secret {path} cannot be read ({error.strerror}): check the file and its owner."
        ) from error
    if not secret:
        raise UsageError(f"The secret {path} is empty: write a random string into it, the same on every node.")
    return secret


def _read_pid(path: str) -> int | None:
    try:
        with open(path, "rb") as file:
            line = file.readline(32).strip()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    return int(line) if line.isdigit() and line != b"0" else None


def _end(run: str) -> int:
    """Kills one run; its pid when that is not allowed, else 0."""
    try:
        procfs.kill_run(run)
    except PermissionError:
        return procfs.pid_of(run) or 0
    return 0
