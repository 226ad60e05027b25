"""Are the nodes' copies of a table equal? From each answer to the next question, while everybody goes on writing.

Ranges of keys are compared by number and digest of their rows, on all nodes; a range that differs is cut in two where
the node with the most rows says, until it is short enough to be listed. So what is equal costs each node one look at
it, and what differs is found in a number of questions that grows with the logarithm of the table.

**A difference that is seen once means little**: what was written a moment ago is on its way. So the rows that differed
are looked at again after a pause that is longer than the lag. A row differs only when *no node's version of it has
changed in between* and they are still unequal. One that has changed is looked at again: a row that is written to all
the time is *moving*, and says nothing about whether nodes end up equal.

What it relies on: a key is in one range on every node, that is, nodes sort keys alike (they are copies of each other,
with collations that mean the same everywhere). Where they do not, what is reported may be too much, since a row is then
looked for in the wrong range, and it is written again without need when it is repaired.

**To repair** a row is to send again what is greatest by the rules: the node that has the newest version, or the newest
tombstone, sends that once more, unchanged; the others then do with it what they would have done the first time. Only
where two nodes have the same version with different content (which nothing here can bring about, but a broken disk or
somebody with `session_replication_role` can) a new version has to be written: of what most nodes have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from twinstar.model.comparing import Key, Known, Range, Sum, Version

CHUNK_ROWS = 20_000
"""So many are compared at once: some hundredths of a second of a node's time."""
LISTED_ROWS = 400
"""Ranges with as many or fewer are listed instead of cut."""


Versions = Mapping[str, Version | None]
"""By node; None: it has no such row."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """To `node`: which key ends the next `CHUNK_ROWS` rows after this one? None: there are fewer."""

    node: str
    after: Key | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """To `node`: which key is the row at this place (from 1) of the range? None: there are fewer."""

    node: str
    range: Range
    place: int


@dataclass(frozen=True, slots=True)
class Summarise:
    """To every node."""

    range: Range


@dataclass(frozen=True, slots=True)
class Listing:
    """To every node: the range's rows."""

    range: Range


Question = Chunk | Cut | Summarise | Listing


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row that differed when it was looked at last, and where to look."""

    range: Range
    versions: Versions


@dataclass(frozen=True, slots=True)
class Comparison:
    """One table's, as far as it has come. Begins with `begin`."""

    todo: tuple[Question, ...]
    """The next question first."""
    compared: int = 0
    """Rows."""
    suspects: Mapping[Key, Suspect] = field(default_factory=dict)
    """To be looked at again after a pause (`look_again`)."""
    differing: Mapping[Key, Versions] = field(default_factory=dict)
    """They are different, and not because something is on its way."""

    def chunk_ended(self, question: Chunk, key: Key | None) -> Comparison:
        following: tuple[Question, ...] = (Summarise(Range(question.after, key)),)
        if key is not None:
            following += (Chunk(question.node, key),)
        return self._with(following)

    def was_cut(self, question: Cut, key: Key | None) -> Comparison:
        """None: rows have gone meanwhile, so the range is looked at anew."""
        whole = question.range
        halves = (whole,) if key is None else (Range(whole.after, key), Range(key, whole.upto))
        return self._with(tuple(map(Summarise, halves)))

    def summarised(self, question: Summarise, sums: Mapping[str, Sum]) -> Comparison:
        most, rows = max(((node, each.rows) for node, each in sorted(sums.items())), key=lambda pair: pair[1])
        if len(set(sums.values())) == 1:
            return replace(self._with(()), compared=self.compared + rows)
        if rows <= LISTED_ROWS:
            return self._with((Listing(question.range),))
        return self._with((Cut(most, question.range, rows // 2),))

    def listed(self, question: Listing, rows: Mapping[str, Mapping[Key, Version]]) -> Comparison:
        """The first look at a range, or a later one at suspects that are in it."""
        found = unequal(rows)
        before = {key: suspect for key, suspect in self.suspects.items() if suspect.range == question.range}
        if not before:
            fresh = {key: Suspect(question.range, versions) for key, versions in found.items()}
            compared = self.compared + max(map(len, rows.values()), default=0)
            return replace(self._with(()), suspects={**self.suspects, **fresh}, compared=compared)
        settled = {key: found[key] for key in before if key in found and found[key] == before[key].versions}
        moving = {key: Suspect(question.range, found[key]) for key in before if key in found and key not in settled}
        others = {key: suspect for key, suspect in self.suspects.items() if key not in before}
        return replace(self._with(()), suspects={**others, **moving}, differing={**self.differing, **settled})

    def look_again(self) -> Comparison:
        """After a pause: the ranges that have suspects are listed once more."""
        ranges = dict.fromkeys(suspect.range for suspect in self.suspects.values())
        return replace(self, todo=tuple(map(Listing, ranges)))

    def _with(self, following: tuple[Question, ...]) -> Comparison:
        return replace(self, todo=(*following, *self.todo[1:]))


def begin(node: str) -> Comparison:
    """Of one table; `node` says where chunks end."""
    return Comparison((Chunk(node),))


def unequal(rows: Mapping[str, Mapping[Key, Version]]) -> dict[Key, Versions]:
    """The rows that are not the same on all nodes."""
    keys = dict.fromkeys(key for each in rows.values() for key in each)
    versions = {key: {node: each.get(key) for node, each in rows.items()} for key in keys}
    return {key: of_nodes for key, of_nodes in versions.items() if len(set(of_nodes.values())) > 1}


class How(StrEnum):
    AGAIN = "again"
    """Send what is there once more, row or tombstone, as it is."""
    ANEW = "anew"
    """Write the row as a new version."""


@dataclass(frozen=True, slots=True)
class Repair:
    node: str
    how: How


def repair(known: Mapping[str, Known]) -> Repair | None:
    """What makes the nodes equal in one row. None: they are, in all that users see."""
    if len({each.row for each in known.values()}) <= 1:
        return None
    newest = max(each.newest for each in known.values())
    having = {node: each for node, each in sorted(known.items()) if each.newest == newest}
    contents = Counter(each.row for each in having.values())
    if len(contents) == 1 and len(having) < len(known):
        return Repair(next(iter(having)), How.AGAIN)
    rows = Counter({row: count for row, count in contents.items() if row is not None})
    most = max(rows.values())
    node = next(node for node, each in having.items() if each.row is not None and rows[each.row] == most)
    return Repair(node, How.ANEW)
