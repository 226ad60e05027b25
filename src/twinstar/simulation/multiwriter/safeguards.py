"""What can be left out, to see that it is needed."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Any

from twinstar.simulation.multiwriter.plan import Plan, Table, draw


class Safeguard(StrEnum):
    """The value is what it is called on the command line."""

    LOOK_AFTER = "look after"
    BUCKET_LOCK = "bucket lock"
    UNSETTLED = "unsettled"
    SAME_TOMBSTONE = "same tombstone"
    SECOND_DELETE = "second delete"
    TOMBSTONE_OF_ABSENT = "tombstone of absent"
    TOMBSTONE_CHECK = "tombstone check"
    ROW_CLOCK = "row clock"
    OLD_SNAPSHOT = "old snapshot"
    SUMS_UNDER_LOCK = "sums under lock"
    CONTRIBUTIONS = "contributions"
    MAKINGS = "makings"
    COLLECTED_BASE = "collected base"
    KEPT_IMAGES = "kept images"
    GRAVE_LOCK = "grave lock"
    MERGED_GROUPS = "merged groups"
    REMOVAL = "removal"
    REMOVAL_SENT = "removal sent"
    FREED_FIRST = "freed first"
    REPORTS = "reports"
    FLOOR = "floor"
    COUNTERS_ALONE = "counters alone"
    REMOVAL_STAMP = "removal stamp"
    OPEN_FIRST = "open first"
    DEAD_COUNT = "dead count"
    DEAD_LETTERS = "dead letters"
    CONFLICTS_BY_GROUP = "conflicts by group"
    SETTLED_ROW = "settled row"
    STOP_FIRST = "stop first"
    FETCH = "fetch"
    FETCH_BY_POSITION = "fetch by position"


REMOVED = {
    Safeguard.LOOK_AFTER: "tombstones are looked for before a row is in its place only",
    Safeguard.BUCKET_LOCK: "no lock between an insertion and a tombstone for a key without a row",
    Safeguard.UNSETTLED: "a tombstone that came while an insertion was open does not look again",
    Safeguard.SAME_TOMBSTONE: "who has looked again settles also a greater tombstone that came meanwhile",
    Safeguard.SECOND_DELETE: "a tombstone that found no row does not look again under the lock",
    Safeguard.TOMBSTONE_OF_ABSENT: "a tombstone for a key without a row is not kept",
    Safeguard.TOMBSTONE_CHECK: "an arriving row goes in whatever tombstone is there",
    Safeguard.ROW_CLOCK: "a stamp is the node's time, whatever is written over",
    Safeguard.OLD_SNAPSHOT: "insertions do not ask for tombstones that their snapshot does not have",
    Safeguard.SUMS_UNDER_LOCK: "sums are made in the snapshot from before the row was locked",
    Safeguard.CONTRIBUTIONS: "increments travel as differences, and are added",
    Safeguard.MAKINGS: "all contributions to a key count, whichever row they were made to",
    Safeguard.COLLECTED_BASE: "a row is made on the tombstone that is here, not on those that were forgotten",
    Safeguard.KEPT_IMAGES: "groups that lose to a tombstone are dropped",
    Safeguard.GRAVE_LOCK: "who brings a row back reads what its tombstone keeps without locking it",
    Safeguard.MERGED_GROUPS: "a successor replaces the row, its groups are not merged",
    Safeguard.REMOVAL: "a row that loses a unique key is deleted without a tombstone",
    Safeguard.REMOVAL_SENT: "the tombstone of a row that loses a unique key stays on the node that found it",
    Safeguard.FREED_FIRST: "within a batch unique values are taken before they are given up",
    Safeguard.REPORTS: "tombstones are forgotten after a while, whoever knows them",
    Safeguard.FLOOR: "insertions are stamped by the clock, also below tombstones that were forgotten",
    Safeguard.COUNTERS_ALONE: "an increment gives the row a new stamp",
    Safeguard.REMOVAL_STAMP: "a row that loses a unique key is removed one tick above it, where its successors are",
    Safeguard.OPEN_FIRST: "a floor is reported while transactions are open that were stamped below it",
    Safeguard.DEAD_COUNT: "tombstones are forgotten before the log of a dead member was applied to its end",
    Safeguard.DEAD_LETTERS: "positions count rows that could not be applied yet",
    Safeguard.CONFLICTS_BY_GROUP: "a write that names the row's stamp is taken to have seen all of its groups",
    Safeguard.SETTLED_ROW: "contributions are forgotten with a tombstone although the row is newer than the cut",
    Safeguard.STOP_FIRST: "survivors go on receiving from a dead member after they have said how far they are",
    Safeguard.FETCH: "what one survivor has received of a dead member stays with it",
    Safeguard.FETCH_BY_POSITION: "survivors fetch what has greater stamps than all they have of the dead member",
}
"""What happens instead."""

_GROUPED = {"table": Table(groups=2), "keys": 1, "transactions": 60, "one_writer": False}
_UNIQUE = {"table": Table(uniques=1), "keys": 3, "transactions": 60}
_DYING = {"dies": True, "cuts": 0.003, "one_writer": False}
_FORGETTING = {
    "forgets": True,
    "one_writer": False,
    "repeats": 0.0,
    "crashes": 0.0,
    "nodes": 2,
    "keys": 10,
    "transactions": 100,
}
_CALM = {"forgets": False, "dies": False, "obstacles": 0.0, "crashes": 0.0, "cuts": 0.0, "repeats": 0.0}
_COUNTED = {"table": Table(counters=1), "one_writer": False}
_FOCUS: dict[Safeguard, dict[str, Any]] = {
    Safeguard.OLD_SNAPSHOT: {"repeatable": 0.6, "keys": 2, "one_writer": False},
    Safeguard.SUMS_UNDER_LOCK: {**_COUNTED, **_CALM, "nodes": 3, "keys": 1, "transactions": 15},
    Safeguard.CONTRIBUTIONS: {**_COUNTED, "keys": 2, "forgets": False, "repeats": 0.5},
    Safeguard.COUNTERS_ALONE: {**_COUNTED, "keys": 2},
    Safeguard.COLLECTED_BASE: {**_FORGETTING, **_COUNTED, "skew_us": 30},
    Safeguard.SETTLED_ROW: {**_FORGETTING, **_COUNTED, "skew_us": 30, "keys": 3, "transactions": 60, "cuts": 0.003},
    Safeguard.KEPT_IMAGES: _GROUPED,
    Safeguard.GRAVE_LOCK: {**_GROUPED, **_CALM, "nodes": 5, "keys": 3, "transactions": 40, "skew_us": 300},
    Safeguard.CONFLICTS_BY_GROUP: _GROUPED,
    Safeguard.REMOVAL_STAMP: {**_UNIQUE, "one_writer": False, "skew_us": 3_000},
    Safeguard.FREED_FIRST: {**_UNIQUE, "one_writer": True, "obstacles": 0.0, "repeats": 0.0, "skew_us": 3_000},
    Safeguard.FLOOR: {**_FORGETTING, "table": Table(), "skew_us": 3_000, "jumps": 0.01},
    Safeguard.OPEN_FIRST: {**_FORGETTING, "skew_us": 30, "keys": 5},
    Safeguard.DEAD_COUNT: {**_FORGETTING, **_DYING, "nodes": 3},
    Safeguard.DEAD_LETTERS: {**_FORGETTING, "obstacles": 0.003},
    Safeguard.STOP_FIRST: _DYING,
    Safeguard.FETCH: _DYING,
    Safeguard.FETCH_BY_POSITION: _DYING,
}
"""What a day must have so that a safeguard matters; without, almost no seed meets it."""


def focused(seed: int, safeguard: Safeguard) -> Plan:
    """The plan of a seed, made such that this safeguard may matter."""
    return replace(draw(seed), **_FOCUS.get(safeguard, {}))
