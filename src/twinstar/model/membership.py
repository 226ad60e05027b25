"""The membership of an active-active cluster: the one small compare-and-set document that says who is in.

Why it is like this: `docs/decisions/active-active-life.md`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from twinstar.model.errors import PeerError, UnknownSchema

SCHEMA = 1
KEY = "membership"


class NodeState(StrEnum):
    JOINING = "joining"
    """Its database is being made: it sends nothing, and no client is let in."""
    IN = "in"
    LEAVING = "leaving"
    """Takes no more writes; the others are still to apply what it has."""
    DEAD = "dead"
    """The survivors stop receiving from it, and settle what they have of it."""


@dataclass(frozen=True, slots=True)
class Node:
    """One life of one member's database. Who is gone for good is not in the document any more."""

    number: int
    """Never given twice."""
    member: str
    state: NodeState
    donor: int | None = None
    """Whose copy it began as; None: the founder's."""
    seals: tuple[tuple[int, int], ...] = ()
    """Of a dead one: (survivor's number, how far it has received; it will receive no more)."""


@dataclass(frozen=True, slots=True)
class Membership:
    epoch: int
    """Grows by one with each change."""
    nodes: tuple[Node, ...]
    """By number."""
    next_number: int
    nonce: str = ""
    """Identifies writer and attempt, so that an author recognises its own change after an unknown answer."""
    reason: str = ""
    schema: int = SCHEMA

    def node(self, number: int) -> Node | None:
        return next((each for each in self.nodes if each.number == number), None)

    def of(self, member: str) -> Node | None:
        """The member's latest life; None when it has none, or all are gone."""
        return max((each for each in self.nodes if each.member == member), key=lambda each: each.number, default=None)

    def in_state(self, *states: NodeState) -> tuple[Node, ...]:
        return tuple(each for each in self.nodes if each.state in states)

    def having(self, node: Node, reason: str) -> Membership:
        """The next epoch, in which `node` is as given."""
        others = tuple(each for each in self.nodes if each.number != node.number)
        nodes = tuple(sorted((*others, node), key=lambda each: each.number))
        following = max(self.next_number, node.number + 1)
        return replace(self, epoch=self.epoch + 1, nodes=nodes, next_number=following, reason=reason)

    def without(self, number: int, reason: str) -> Membership:
        """The next epoch, without this node; its number stays spent."""
        nodes = tuple(each for each in self.nodes if each.number != number)
        return replace(self, epoch=self.epoch + 1, nodes=nodes, reason=reason)

    def written_as(self, nonce: str) -> Membership:
        """The same by another author."""
        return replace(self, nonce=nonce)

    def encode(self) -> bytes:
        """JSON, with sorted keys, so that equal memberships are equal bytes."""
        raw = {
            "schema": self.schema,
            "epoch": self.epoch,
            "next_number": self.next_number,
            "nonce": self.nonce,
            "reason": self.reason,
            "nodes": [
                {
                    "number": each.number,
                    "member": each.member,
                    "state": each.state.value,
                    "donor": each.donor,
                    "seals": [list(seal) for seal in each.seals],
                }
                for each in self.nodes
            ],
        }
        return json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Membership:
        """Reads what `encode` wrote. Raises UnknownSchema for a version that this program does not know, PeerError for
        what is no membership at all.
        """
        try:
            raw: Any = json.loads(data)
            schema = raw["schema"] if isinstance(raw, dict) else raw
            if schema != SCHEMA:
                raise UnknownSchema("membership", schema, SCHEMA)
            nodes = tuple(
                Node(
                    int(each["number"]),
                    str(each["member"]),
                    NodeState(each["state"]),
                    each["donor"],
                    tuple((int(survivor), int(position)) for survivor, position in each["seals"]),
                )
                for each in raw["nodes"]
            )
            return cls(int(raw["epoch"]), nodes, int(raw["next_number"]), str(raw["nonce"]), str(raw["reason"]))
        except (KeyError, TypeError, ValueError) as error:
            raise PeerError(
                f"The membership in the store cannot be read ({error}): something else has written there."
            ) from error
