"""What is written down while a register moves, so that anybody can go on where somebody stopped.

The *mark* takes the decisive key's place in the old store. It is written by compare-and-set on the value that it holds,
so nothing that was based on that value, however late it arrives, can change the old store any more; and no mark is ever
changed but by a register that moves back. From then on there is one thing left that can happen: the value goes to the
new store.

The *claim* stands in the new store before the mark is written: which mark may come here, and onto which revision of
the decisive key. A new store that has no such claim (another one, or one that was made anew since) takes nothing, so
that an old mark can never bring an old register back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from twinstar.store.base import Versioned

CLAIM = "claim"
_MARK = b'{"moved_to": '


@dataclass(frozen=True, slots=True)
class Mark:
    to: str
    """The new store, for people."""
    token: str
    was: bytes
    """The value that moves."""

    def encode(self) -> bytes:
        return json.dumps({"moved_to": self.to, "token": self.token, "was": self.was.decode()}).encode()


def mark_in(found: Versioned | None) -> Mark | None:
    """None: it is not moved."""
    if found is None or not found.value.startswith(_MARK):
        return None
    raw = json.loads(found.value)
    return Mark(raw["moved_to"], raw["token"], raw["was"].encode())


@dataclass(frozen=True, slots=True)
class Claim:
    token: str
    onto: int
    """The revision of the new store's decisive key when the claim was made: `ABSENT`, or that of an old mark."""

    def encode(self) -> bytes:
        return json.dumps({"token": self.token, "onto": self.onto}).encode()


def claim_in(found: Versioned | None) -> Claim | None:
    if found is None:
        return None
    raw = json.loads(found.value)
    return Claim(raw["token"], raw["onto"])
