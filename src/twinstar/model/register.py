"""The register: the one small compare-and-set document per cluster, and the only truth about who leads.

Its fields and who may change which are fixed in `docs/protocol.md`, "The register".
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from twinstar.model.errors import PeerError, UnknownSchema
from twinstar.model.position import Position

KEY = "register"
"""What it stands under in the store."""
SCHEMA = 1


class Phase(StrEnum):
    BOOTSTRAPPING = "bootstrapping"
    LEADING = "leading"
    ELECTING = "electing"


class Durability(StrEnum):
    QUORUM = "quorum"
    """A commit is acknowledged when `required` voters have flushed it."""
    ASYNC = "async"


@dataclass(frozen=True, slots=True)
class Switchover:
    """A planned change of leader that is under way."""

    to: str
    deadline_wall_ms: int
    """Wall-clock milliseconds, the leader's, after which it gives up."""
    within_ms: int = 10_000
    """How long that was when it was written: the others count it on their own clocks."""


@dataclass(frozen=True, slots=True)
class Register:
    """One version of the register. `required` counts voters; `copies` includes the leader."""

    epoch: int
    phase: Phase
    leader: str
    """The last *named* leader; not cleared while electing. Empty only while bootstrapping."""
    copies: frozenset[str]
    required: int
    durability: Durability
    nonce: str
    """Identifies the writer and the attempt, so that an author recognises its own change after an unknown answer."""
    system_identifier: str = ""
    fork: Position | None = None
    """Where `leader` was named: the position its leadership starts from."""
    switchover: Switchover | None = None
    paused: bool = False
    reason: str = ""
    """Why this epoch or version came to be (`model.effects.Reason`)."""
    evidence: str = ""
    """What its author saw, in a sentence; for the history."""
    lease_ms: int = 0
    """`async` alone: how long the leader may lead after a renewal."""
    renewals: int = 0
    """`async` alone: counts the renewals, so that each one changes the register."""
    position: Position | None = None
    """`async` alone: the leader's position at its last renewal."""
    schema: int = SCHEMA

    @property
    def voters(self) -> frozenset[str]:
        """The copies other than the leader."""
        return self.copies - {self.leader}

    def written_as(self, nonce: str) -> Register:
        """The same by another author."""
        return self.but(nonce=nonce)

    def but(self, **changes: Any) -> Register:
        """This register with some fields changed."""
        return replace(self, **changes)

    def encode(self) -> bytes:
        """JSON, with sorted keys, so that equal registers are equal bytes."""
        raw = asdict(self)
        raw["copies"] = sorted(self.copies)
        raw["fork"] = str(self.fork) if self.fork else None
        raw["position"] = str(self.position) if self.position else None
        return json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Register:
        """Reads what `encode` wrote. Raises UnknownSchema for a version that this program does not know,
        PeerError for what is no register at all.
        """
        raw = _document("register", data)
        try:
            raw["phase"] = Phase(raw["phase"])
            raw["durability"] = Durability(raw["durability"])
            raw["copies"] = frozenset(raw["copies"])
            raw["switchover"] = Switchover(**raw["switchover"]) if raw["switchover"] else None
            for field in ("fork", "position"):
                raw[field] = Position.parse(raw[field]) if raw[field] else None
            return cls(**raw)
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable("register", error) from error


@dataclass(frozen=True, slots=True)
class Seal:
    """What a copy publishes when it has sealed for `epoch`: nothing is acknowledged through it for a lower one."""

    member: str
    epoch: int
    position: Position

    def encode(self) -> bytes:
        return json.dumps(
            {"schema": SCHEMA, "member": self.member, "epoch": self.epoch, "position": str(self.position)},
            sort_keys=True,
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> Seal:
        raw = _document("seal", data)
        try:
            return cls(raw["member"], raw["epoch"], Position.parse(raw["position"]))
        except (KeyError, ValueError) as error:
            raise _unreadable("seal", error) from error


def _document(what: str, data: bytes) -> dict[str, Any]:
    """The JSON object in `data`, of the schema version this program knows. Raises PeerError."""
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise _unreadable(what, error) from error
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        raise UnknownSchema(what, raw.get("schema") if isinstance(raw, dict) else raw, SCHEMA)
    return raw


def _unreadable(what: str, error: Exception) -> PeerError:
    return PeerError(f"The {what} in the store cannot be read ({error}): something else has written there.")
