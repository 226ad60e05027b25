"""A command that is run to its end, and never outlives who asked for it.

asyncio's own subprocesses leave a process and its pipes to the garbage collector when their task is cancelled a second
time or their loop ends first, and do not see the end of one while a descendant holds its pipes. So the pipes are read
here, and the end is seen through a pidfd.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinstar.ports import procfs

_CHUNK_BYTES = 65_536
_LAST_LINES = 200


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended: its exit status (negative: the signal), its output, and its last lines of errors."""

    code: int
    out: str
    err: str


def begin(command: Sequence[str], options: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    """Begins a command for `finish`. `options` are those of `subprocess.Popen`; a session of its own is among them.
    Raises OSError when it cannot be started.
    """
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


async def finish(begun: subprocess.Popen[bytes], on_line: Callable[[str], None] | None) -> Finished:
    """Waits until the command has ended and nobody holds its outputs any more. `on_line` is told each line of its error
    output. When cancelled it kills the command's session, and returns when the command is gone.
    """
    out, err = bytearray(), _Lines(on_line)
    with begun as process, _end_of(process.pid) as end:
        assert process.stdout and process.stderr
        try:
            await _drained({process.stdout.fileno(): out.extend, process.stderr.fileno(): err.take})
            await end.wait()
        except BaseException:
            # Nobody has asked yet how it ended, so its number is still its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # However often we are cancelled meanwhile: who was killed is gone in a moment.
            while not end.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await end.wait()
            raise
    return Finished(process.returncode, out.decode("utf-8", "replace"), err.last())


async def ended(pid: int, is_it: Callable[[], bool]) -> None:
    """Returns when the process `pid` has ended, be it a zombie; at once when there is none, or when `is_it`, asked
    while the number cannot pass to another, says that it is not the one that is meant.
    """
    with contextlib.suppress(ProcessLookupError), _end_of(pid) as end:
        if is_it():
            await end.wait()


@contextlib.contextmanager
def _end_of(pid: int) -> Iterator[asyncio.Event]:
    loop = asyncio.get_running_loop()
    handle = procfs.open_pidfd(pid)
    end = asyncio.Event()

    def it_is() -> None:
        loop.remove_reader(handle)
        end.set()

    loop.add_reader(handle, it_is)
    try:
        yield end
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def _drained(pipes: Mapping[int, Callable[[bytes], None]]) -> None:
    """Hands out what each pipe brings, until nobody holds the other end of any."""
    loop = asyncio.get_running_loop()
    some = asyncio.Event()
    unended = dict(pipes)
    try:
        for pipe in pipes:
            os.set_blocking(pipe, False)
            loop.add_reader(pipe, some.set)
        while unended:
            await some.wait()
            some.clear()
            for pipe, take in tuple(unended.items()):
                chunk = _chunk_of(pipe)
                if chunk:
                    take(chunk)
                elif chunk is not None:
                    loop.remove_reader(pipe)
                    del unended[pipe]
    finally:
        for pipe in unended:
            loop.remove_reader(pipe)


def _chunk_of(pipe: int) -> bytes | None:
    """None: there is nothing now; empty: there will be nothing any more."""
    try:
        return os.read(pipe, _CHUNK_BYTES)
    except BlockingIOError:
        return None


class _Lines:
    """The last lines of a stream; progress reports end with a carriage return and count as lines."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._kept: list[str] = []
        self._rest = ""

    def take(self, chunk: bytes) -> None:
        *whole, self._rest = (self._rest + chunk.decode("utf-8", "replace").replace("\r", "\n")).split("\n")
        self._kept = (self._kept + whole)[-_LAST_LINES:]
        if self._on_line:
            for line in whole:
                if line.strip():
                    self._on_line(line.strip())

    def last(self) -> str:
        return "\n".join([*self._kept, self._rest]).strip()
