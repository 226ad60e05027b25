"""Shared memory that killed servers leave behind.

A server that is killed cannot remove it. The next start in the same data directory does
(`src/backend/port/sysv_shmem.c`, `src/backend/storage/ipc/dsm.c`); when the directory is removed instead nobody ever
would, and a machine has 4,096 such segments (`kernel.shmmni`): then no PostgreSQL starts on it any more.

A server has one System V segment, of 56 bytes, whose header names the *control segment* of its dynamic shared memory, a
file in `/dev/shm`; that one names the other files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from twinstar.ports import system_v
from twinstar.ports.system_v import Segment

_FILES = Path("/dev/shm")  # noqa: S108 - where the C library keeps POSIX shared memory
_HEADER = struct.Struct("@iiNNI")  # magic, creator, total size, free offset, handle of the control segment
_HEADER_MAGIC = 679834894
_HEADER_BYTES = 56
_CONTROL = struct.Struct("@III4x")  # magic, items, room for items
_CONTROL_MAGIC = 0x9A503D32
_ITEM = struct.Struct("@II2NPB7x")  # handle, references, place in the main segment, unused here, pinned


def release_of(data: Path) -> None:
    """Removes what the server of this data directory left when it was killed. Nothing while a process of it lives."""
    lines = _read(data / "postmaster.pid").decode(errors="replace").splitlines()
    named = lines[6].split() if len(lines) > 6 else []
    for segment in abandoned():
        if named == [str(segment.key), str(segment.id)]:
            release(segment)


def abandoned() -> Iterator[Segment]:
    """Segments of the size of a server's that no process uses, and whose maker has ended."""
    for segment in system_v.segments():
        if segment.size == _HEADER_BYTES and not segment.attached and not Path(f"/proc/{segment.creator}").exists():
            yield segment


def release(segment: Segment) -> None:
    """Removes a segment, and the files that it leads to if it is a server's."""
    header = system_v.take_away(segment)
    if header is None:
        return
    magic, _, _, _, control = _HEADER.unpack_from(header)
    if magic == _HEADER_MAGIC and control:
        for handle in [*_handles(_read(_file(control))), control]:
            _file(handle).unlink(missing_ok=True)


def _handles(control: bytes) -> Iterator[int]:
    if len(control) < _CONTROL.size:
        return
    magic, items, _ = _CONTROL.unpack_from(control)
    if magic != _CONTROL_MAGIC:
        return
    for handle, references, *_ in _ITEM.iter_unpack(control[_CONTROL.size :][: items * _ITEM.size]):
        in_a_file = handle % 2 == 0  # the others lie in the server's main memory
        if references and in_a_file:
            yield handle


def _file(handle: int) -> Path:
    return _FILES / f"PostgreSQL.{handle}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
