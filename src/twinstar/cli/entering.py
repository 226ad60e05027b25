"""Moving the calling thread into another network namespace."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_CLONE_NEWNET = 0x40000000


def move_to(path: Path) -> None:
    """Into the one that `path` names. Raises OSError."""
    with path.open("rb") as namespace:
        set_namespace(namespace.fileno())


def set_namespace(descriptor: int) -> None:
    """Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns is Python 3.12's
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
