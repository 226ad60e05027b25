"""System V shared memory: what is there, and removing what nobody uses. Linux only, as `procfs`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/sysvipc/shm")
_REMOVE = 0
_READ_ONLY = 0o10000


@dataclass(frozen=True, slots=True)
class Segment:
    id: int
    """Given anew by every start of the machine."""
    key: int
    """Chosen by who made it; unsigned, 32 bits."""
    size: int
    """Bytes."""
    creator: int
    """The process that made it, which may have ended."""
    attached: int
    """How many processes have it mapped."""


def segments() -> list[Segment]:
    """All of this machine (of this IPC namespace)."""
    found = []
    for line in _TABLE.read_text().splitlines()[1:]:
        key, shmid, _, size, creator, _, attached = map(int, line.split()[:7])
        found.append(Segment(shmid, key & 0xFFFFFFFF, size, creator, attached))
    return found


def take_away(segment: Segment) -> bytes | None:
    """Removes a segment, and returns what was in it; None when that is not possible: it is gone, or somebody else's."""
    import ctypes  # large, and rarely needed

    libc = ctypes.CDLL(None)
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(segment.id, None, _READ_ONLY)
    if address == ctypes.c_void_p(-1).value:
        return None
    content = ctypes.string_at(address, segment.size)
    libc.shmdt(ctypes.c_void_p(address))
    return content if libc.shmctl(segment.id, _REMOVE, None) == 0 else None
