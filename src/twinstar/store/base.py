"""What a coordination store must be able to do. Every store passes `tests/store/conformance.py`.

Keys are strings such as ``register``, ``seals/7/n1``, ``members/n1``, ``history/7``; the store keeps them below a
prefix of its own that contains the cluster's name (`root`). Values are small byte strings, at most `MAX_VALUE_BYTES`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from twinstar.model.errors import TwinstarError

ABSENT = 0
"""The revision to expect of a key that must not exist yet."""

MAX_VALUE_BYTES = 64 * 1024


class ValueTooLarge(TwinstarError):
    """A value is larger than `MAX_VALUE_BYTES`: refused before anything is sent, so nothing has changed."""

    def __init__(self, key: str, size: int) -> None:
        super().__init__(
            f"The value of {key} has {size} bytes, a store takes {MAX_VALUE_BYTES}: keep large things elsewhere."
        )


def check_size(key: str, value: bytes) -> None:
    """Raises ValueTooLarge."""
    if len(value) > MAX_VALUE_BYTES:
        raise ValueTooLarge(key, len(value))


def root(cluster: str) -> str:
    """What all keys of a cluster begin with in a store that several clusters share."""
    return f"/twinstar/{cluster}/"


@dataclass(frozen=True, slots=True)
class Versioned:
    """A value and its revision: larger for a later change of the same key, never used twice, never `ABSENT`."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Applied:
    """The change was made, at this revision."""

    revision: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """The change was not made and never will be: the key was at another revision. `current` is None if it is absent."""

    current: Versioned | None


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer: the change may have been made, may still be made, or may never be.

    It is settled when the key's revision has moved past the expected one, never by reading the old value again.
    """

    why: str


CasOutcome = Applied | Conflict | Unknown


@dataclass(frozen=True, slots=True)
class Changed:
    """A key's value as of some moment; `value` is None when the key was deleted.

    A watch may skip intermediate versions but always ends up delivering the newest one.
    """

    key: str
    value: Versioned | None


@dataclass(frozen=True, slots=True)
class Lost:
    """The watch has lost contact with the store (`why`); it goes on trying, and will deliver the present state."""

    why: str


@dataclass(frozen=True, slots=True)
class Synced:
    """Everything that stood under the prefix at some moment after the (re)connection has been delivered."""


WatchEvent = Changed | Lost | Synced


class Store(Protocol):
    async def read(self, key: str) -> Versioned | None:
        """The value, linearizably: not older than any change that ended before the call. Raises StoreUnavailable."""
        ...

    async def read_all(self, prefix: str) -> list[Versioned]:
        """All values whose key starts with `prefix`, in the order of their keys. Raises StoreUnavailable."""
        ...

    async def compare_and_set(self, key: str, value: bytes, expected_revision: int) -> CasOutcome:
        """Sets the value if the key is at `expected_revision` (`ABSENT`: if it does not exist).

        Whatever happens on the way is an outcome; raises ValueTooLarge alone, which is the caller's mistake.
        """
        ...

    async def delete(self, key: str) -> None:
        """Removes a key that safety does not rest on. Raises StoreUnavailable."""
        ...

    def watch(self, prefix: str) -> AsyncGenerator[WatchEvent, None]:
        """Delivers what stands under `prefix` first, then `Synced`, then each change, across reconnections, for ever.

        After a reconnection the present state comes again (keys deleted meanwhile as deletions), then `Synced`.
        Ends only when the consumer closes it (`contextlib.aclosing`).
        """
        ...

    async def close(self) -> None: ...
