"""What was received and is not applied yet, on disk: durable receipt is what a peer's synchronous commits wait for.

If they waited for it to be applied, two nodes that write the same row would wait for each other's row locks for ever,
and no detector would see it. A spool is a folder of segments, each a sequence of frames: length, checksum, the position
up to which the peer's stream is complete with this frame (0: in the middle of a transaction), messages. Whoever reads
sees whole transactions only. What a crash has torn off, and a transaction that a cut stream has left unfinished, is cut
away: the peer sends it again, for it was not confirmed. Every segment begins with the descriptions of the tables.

Nothing here waits but for the disk; `sync` alone may be called from another thread.
"""

from __future__ import annotations

import os
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import NoReturn

from twinstar.model.errors import EngineError

SEGMENT_BYTES = 16 * 1024 * 1024
_READ_AT_ONCE_BYTES = 256 * 1024
_SUFFIX = ".spool"
_frame = Struct("!IIQ")
_length = Struct("!I")
_COMMIT, _RELATION = b"CR"


@dataclass(slots=True)
class _Segment:
    number: int
    file: int
    size: int = 0
    """With an unfinished transaction at its end."""
    whole: int = 0
    """Up to the end of a transaction."""
    end_lsn: int = 0
    """How far the stream is complete with it."""


class Spool:
    """One peer's. Raises EngineError when it is damaged, OSError when the disk refuses."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder, self._segment_bytes = folder, segment_bytes
        self._relations: dict[bytes, bytes] = {}
        self._closing = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        numbers = sorted(int(path.stem, 16) for path in folder.glob(f"*{_SUFFIX}")) or [1]
        self._segments = [self._open(number) for number in numbers]
        for segment in self._segments:
            self._recover(segment)
        self._reading, self._offset = 0, 0
        """Where reading goes on: index of the segment, and offset."""
        self.cut()

    @property
    def size_bytes(self) -> int:
        """On disk."""
        return sum(segment.size for segment in self._segments)

    @property
    def end_lsn(self) -> int:
        """How far the stream is complete with what is in it, or was and has been applied; 0: nothing ever was."""
        return max(segment.end_lsn for segment in self._segments)

    @property
    def unread(self) -> bool:
        return self._reading < len(self._segments) - 1 or self._offset < self._newest.whole

    @property
    def whole(self) -> bool:
        """Whether no transaction is unfinished."""
        return self._newest.size == self._newest.whole

    def rewind(self) -> None:
        """Reading begins anew with the oldest that is left."""
        self._reading, self._offset = 0, 0

    def append(self, messages: list[bytes], end_lsn: int) -> None:
        """Adds messages. `end_lsn`: how far the stream is complete with those up to the last commit among them."""
        whole = max((at for at, message in enumerate(messages, 1) if message[0] == _COMMIT), default=0)
        for message in messages:
            if message[0] == _RELATION:
                self._relations[message[1:5]] = message
        if whole:
            self._write(messages[:whole], end_lsn)
            self._turn_over()
        if whole < len(messages):
            self._write(messages[whole:], 0)

    def note(self, end_lsn: int) -> None:
        """There was nothing for us up to this position. Only between transactions."""
        if end_lsn > self.end_lsn:
            self._write([], end_lsn)

    def sync(self) -> None:
        """Returns when all that had been appended before is on disk."""
        with self._closing:
            os.fdatasync(self._newest.file)

    def cut(self) -> None:
        """Forgets an unfinished transaction: it will come again."""
        os.ftruncate(self._newest.file, self._newest.whole)
        self._newest.size = self._newest.whole

    def read(self) -> tuple[list[bytes], int]:
        """The next messages of finished transactions, some hundred kilobytes, and how far the stream is complete with
        them (0: no further than before). Nothing, when there is nothing.
        """
        messages: list[bytes] = []
        end_lsn = size = 0
        while self.unread and size < _READ_AT_ONCE_BYTES:
            segment = self._segments[self._reading]
            if self._offset == segment.whole:
                self._reading, self._offset = self._reading + 1, 0
                continue
            end, body = self._read_frame(segment, self._offset) or self._refuse(segment)
            self._offset += _frame.size + len(body)
            size += len(body)
            end_lsn = end or end_lsn
            messages += _unpack(body)
        return messages, end_lsn

    def applied(self, end_lsn: int) -> None:
        """What ends up to this position is durably applied, so that nobody will ask for it any more."""
        while self._reading > 0 and self._segments[0].end_lsn <= end_lsn:
            segment = self._segments.pop(0)
            self._reading -= 1
            with self._closing:
                os.close(segment.file)
            self._path(segment.number).unlink()

    def remove(self) -> None:
        """Only when all of it is durably applied."""
        self.close()
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            path.unlink()
        self._folder.rmdir()

    def close(self) -> None:
        for segment in self._segments:
            os.close(segment.file)
        self._segments.clear()

    @property
    def _newest(self) -> _Segment:
        return self._segments[-1]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:016x}{_SUFFIX}"

    def _open(self, number: int) -> _Segment:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        segment = _Segment(number, os.open(self._path(number), flags, 0o600))
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return segment

    def _turn_over(self) -> None:
        """Between transactions: begins another segment when this one is full."""
        if self._newest.size < self._segment_bytes:
            return
        end_lsn = self.end_lsn
        self.sync()
        self._segments.append(self._open(self._newest.number + 1))
        self._write(list(self._relations.values()), end_lsn)

    def _write(self, messages: list[bytes], end_lsn: int) -> None:
        body = b"".join(part for message in messages for part in (_length.pack(len(message)), message))
        frame = _frame.pack(len(body), zlib.crc32(body), end_lsn) + body
        segment = self._newest
        view = memoryview(frame)
        while view:
            view = view[os.write(segment.file, view) :]
        segment.size += len(frame)
        if end_lsn:
            segment.whole, segment.end_lsn = segment.size, end_lsn

    def _recover(self, segment: _Segment) -> None:
        """Finds the end of the last whole transaction. Only the newest segment may have more behind it."""
        while (found := self._read_frame(segment, segment.size)) is not None:
            end_lsn, body = found
            segment.size += _frame.size + len(body)
            if end_lsn:
                segment.whole, segment.end_lsn = segment.size, end_lsn
            self._relations |= {message[1:5]: message for message in _unpack(body) if message[0] == _RELATION}
        if segment is not self._newest and os.fstat(segment.file).st_size != segment.whole:
            self._refuse(segment)

    def _read_frame(self, segment: _Segment, offset: int) -> tuple[int, bytes] | None:
        """Position and body of the frame that begins there; None when no whole one does."""
        head = os.pread(segment.file, _frame.size, offset)
        if len(head) < _frame.size:
            return None
        length, checksum, end_lsn = _frame.unpack(head)
        body = os.pread(segment.file, length, offset + _frame.size)
        return (end_lsn, body) if len(body) == length and zlib.crc32(body) == checksum else None

    def _refuse(self, segment: _Segment) -> NoReturn:
        raise EngineError(
            f"{self._path(segment.number)} is damaged, and with it transactions that a peer has confirmed to its "
            "clients: compare this node with the others and repair it."
        )


def _unpack(body: bytes) -> list[bytes]:
    messages = []
    at = 0
    while at < len(body):
        (length,) = _length.unpack_from(body, at)
        messages.append(body[at + 4 : at + 4 + length])
        at += 4 + length
    return messages
