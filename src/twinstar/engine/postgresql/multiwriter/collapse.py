"""From the messages of a peer to batches: whatever has come is one batch, and in it each key occurs once.

A batch ends where a transaction ends, so that what one transaction did is seen at once here, too. Only one that is
larger than a batch may be is handed on in parts; whoever applies them commits after the last. From one peer the
versions of a key only grow, so the last image is the one that counts; the first version that was replaced is kept,
because a row here with that version is replaced by its successor, and that is no conflict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import compress
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

from twinstar.engine.postgresql.multiwriter.batch import Burial, Changes, Contribution, Image
from twinstar.engine.postgresql.multiwriter.pgoutput import (
    UNCHANGED,
    Begin,
    Commit,
    Insert,
    Relation,
    Update,
    Values,
    decode,
)
from twinstar.engine.postgresql.multiwriter.swaths import Swaths
from twinstar.engine.postgresql.multiwriter.table import GROUPS, STAMP, Table

MAXIMUM_ROWS = 2_000
MAXIMUM_BYTES = 4 * 1024 * 1024
_ARE_ROWS = bytes(kind in b"IU" for kind in range(256))


@dataclass(frozen=True, slots=True)
class Stray:
    """A row that no table here can take."""

    schema: str
    name: str
    values: dict[str, str | None]
    reason: str


Part: TypeAlias = tuple[Table, Changes]


@dataclass(frozen=True, slots=True)
class Batch:
    """`parts` are applied in their order. `end_lsn` and `time_us` are of the last transaction that ends here;
    `complete`: there is no further one of which this has a part.
    """

    parts: tuple[Part, ...]
    strays: tuple[Stray, ...]
    rows: int
    transactions: int
    end_lsn: int
    time_us: int
    complete: bool


@dataclass(slots=True)
class Harvest:
    """What the sinks hand over."""

    parts: dict[str, Part] = field(default_factory=dict)
    strays: list[Stray] = field(default_factory=list)

    def changes(self, table: Table) -> Changes:
        return self.parts.setdefault(table.slug, (table, Changes()))[1]


class Sink(Protocol):
    """Where the rows of one of the peer's tables go."""

    def collapse(self, messages: list[bytes], harvest: Harvest) -> None:
        """Insertions and updates, in their order: all that a batch has of that table."""
        ...


class Rows:
    """The rows of a table itself."""

    def __init__(self, table: Table, relation: Relation) -> None:
        names = [column.name for column in relation.columns]
        wanted = [column.name for column in table.sent_columns]
        self._table = table
        self._relation = relation
        self._swaths = Swaths(table, relation) if table.plain and sorted(names) == sorted(wanted) else None
        self._arranged = None if names == wanted else _picking(names, wanted)
        self._key = itemgetter(*(wanted.index(name) for name in table.key))
        self._stamp = wanted.index(STAMP)
        self._groups = wanted.index(GROUPS) if GROUPS in wanted else None
        self._knew_nothing, self._found = (",".join([number] * len(table.cells)) for number in ("-1", "0"))

    def collapse(self, messages: list[bytes], harvest: Harvest) -> None:
        swaths = self._swaths.of(messages) if self._swaths is not None else None
        if swaths is not None:
            harvest.changes(self._table).swaths.extend(swaths)
            return
        images: dict[Any, Image] = {}
        for old, new in map(_decoded, messages):
            if UNCHANGED in new and any(value is UNCHANGED for value in new):
                reason = "an unchanged value was not sent: the table needs REPLICA IDENTITY FULL on the peer"
                harvest.strays.append(_stray(self._relation, new, reason))
            elif self._arranged is None:
                self._add(images, old, new)
            else:
                self._add(images, self._arranged(old) if old else old, self._arranged(new))
        if images:
            harvest.changes(self._table).images.extend(images.values())

    def _add(self, images: dict[Any, Image], old: Values | None, new: Values) -> None:
        key = self._key(new)
        # A row whose key was changed is new under this key; the old one has got a tombstone.
        was = int(old[self._stamp] or 0) if old is not None and self._key(old) == key else 0
        known = images.get(key)
        image = Image(new, int(new[self._stamp] or 0), was if known is None else known.was, was)
        if self._groups is not None:
            knew = self._knew_nothing
            if old is not None and self._key(old) == key:
                knew = (old[self._groups] or self._found).strip("{}")
            image = image._replace(knew=knew if known is None else known.knew, last_knew=knew)
        images[key] = image


class Burials:
    """The rows of a table's companion: tombstones."""

    def __init__(self, table: Table, relation: Relation) -> None:
        names = [column.name for column in relation.columns]
        self._table = table
        self._key = _picking(names, table.key)
        self._stamp, self._was = names.index(STAMP), names.index("twinstar_was")
        self._image = names.index("twinstar_image") if "twinstar_image" in names else None

    def collapse(self, messages: list[bytes], harvest: Harvest) -> None:
        burials: dict[Values, Burial] = {}
        for _, new in map(_decoded, messages):
            key: Any = self._key(new)
            image = None if self._image is None else new[self._image]
            burials[key] = Burial(key, int(new[self._stamp] or 0), int(new[self._was] or 0), image)
        harvest.changes(self._table).burials.extend(burials.values())


class Contributions:
    """The rows of a table's counters."""

    def __init__(self, table: Table, relation: Relation) -> None:
        names = [column.name for column in relation.columns]
        self._table = table
        self._key = _picking(names, table.key)
        self._numbers = _picking(names, ("twinstar_born", "twinstar_node", "twinstar_writes"))
        self._sums = _picking(names, table.counters)

    def collapse(self, messages: list[bytes], harvest: Harvest) -> None:
        contributions: dict[tuple[Values, int, int], Contribution] = {}
        for _, new in map(_decoded, messages):
            key: Any = self._key(new)
            sums: Any = self._sums(new)
            born, node, writes = (int(number or 0) for number in self._numbers(new))
            contributions[key, born, node] = Contribution(key, born, node, writes, sums)
        harvest.changes(self._table).contributions.extend(contributions.values())


class Strays:
    """The rows of a table that cannot be taken in here."""

    def __init__(self, relation: Relation, reason: str) -> None:
        self._relation, self._reason = relation, reason

    def collapse(self, messages: list[bytes], harvest: Harvest) -> None:
        harvest.strays += [_stray(self._relation, new, self._reason) for _, new in map(_decoded, messages)]


class Collector:
    """Collects messages until somebody takes what has come. They are looked into only then, all at once."""

    def __init__(self, maximum_rows: int = MAXIMUM_ROWS, maximum_bytes: int = MAXIMUM_BYTES) -> None:
        self._maximum_rows, self._maximum_bytes = maximum_rows, maximum_bytes
        self._relations: dict[int, Relation] = {}
        self._sinks: dict[int, Sink] = {}
        self._messages: dict[bytes, list[bytes]] = {}
        """By the bytes of a relation's number."""
        self._parts: list[Part] = []
        self._strays: list[Stray] = []
        self._rows = self._bytes = self._transactions = self._end_lsn = self._time_us = 0
        self._begun_us = 0
        self.open = False
        """Whether a transaction has begun and not ended."""
        self.oldest_us: int | None = None
        """When the first of the transactions that are here was committed, by the peer's clock, since 1970."""

    @property
    def empty(self) -> bool:
        return not self._transactions and not self.open

    @property
    def full(self) -> bool:
        return self._rows >= self._maximum_rows or self._bytes >= self._maximum_bytes

    @property
    def ready(self) -> bool:
        """Whether there is a batch to take."""
        return self.full or (self._transactions > 0 and not self.open)

    def knows(self, relation: Relation) -> bool:
        """Whether this is how the peer's table was known. It is told again also when nothing has changed."""
        return self._relations.get(relation.id) == relation

    def relate(self, relation: Relation, sink: Sink) -> None:
        """Says where the rows of this one of the peer's tables go from now on."""
        # What has come before may be of another shape.
        self._collect()
        self._relations[relation.id] = relation
        self._sinks[relation.id] = sink

    def add(self, messages: list[bytes], kinds: bytes) -> None:
        """Messages of the kinds B, C, I, U and D, and of which kind each one is; raises PeerError. Deletions are not
        looked at: tombstones say more.
        """
        self._keep(list(compress(messages, kinds.translate(_ARE_ROWS))))
        begun, ended = kinds.rfind(b"B"), kinds.rfind(b"C")
        if begun >= 0:
            if self.oldest_us is None:
                self.oldest_us = _begin(messages[kinds.index(b"B")]).time_us
            self._begun_us = _begin(messages[begun]).time_us
        if ended >= 0:
            commit = decode(messages[ended])
            assert isinstance(commit, Commit), "its first byte says so"
            self._end_lsn, self._time_us = commit.end_lsn, commit.time_us
            self._transactions += kinds.count(b"C")
        if begun != ended:
            self.open = begun > ended

    def take(self) -> Batch:
        """What has been collected; it begins anew. Raises PeerError."""
        self._collect()
        batch = Batch(
            tuple(self._parts),
            tuple(self._strays),
            self._rows,
            self._transactions,
            self._end_lsn,
            self._time_us,
            complete=not self.open,
        )
        self._parts, self._strays = [], []
        self._rows = self._bytes = self._transactions = 0
        self.oldest_us = self._begun_us if self.open else None
        return batch

    def _keep(self, rows: list[bytes]) -> None:
        self._rows += len(rows)
        self._bytes += sum(map(len, rows))
        relations = {row[1:5] for row in rows}
        for relation in relations:
            self._messages.setdefault(relation, [])
        if len(relations) == 1:
            self._messages[relation] += rows
        else:
            for row in rows:
                self._messages[row[1:5]].append(row)

    def _collect(self) -> None:
        harvest = Harvest()
        for relation, messages in self._messages.items():
            self._sinks[int.from_bytes(relation)].collapse(messages, harvest)
        self._messages = {}
        self._parts += harvest.parts.values()
        self._strays += harvest.strays


def _begin(message: bytes) -> Begin:
    begin = decode(message)
    assert isinstance(begin, Begin), "its first byte says so"
    return begin


def _decoded(message: bytes) -> tuple[Values | None, Values]:
    """Of an insertion or an update, the row as it was and as it is. Raises PeerError."""
    row = decode(message)
    if isinstance(row, Insert):
        return None, row.new
    assert isinstance(row, Update), "nothing else was kept"
    return row.old, row.new


def _picking(names: list[str], wanted: list[str] | tuple[str, ...]) -> Callable[[Values], Any]:
    """A function that picks these values of a row, always as a tuple."""
    places = [names.index(name) for name in wanted]
    if len(places) == 1:
        (place,) = places
        return lambda values: (values[place],)
    return itemgetter(*places) if places else lambda _values: ()


def _stray(relation: Relation, values: Values, reason: str) -> Stray:
    named = zip((column.name for column in relation.columns), values, strict=True)
    shown = {name: value for name, value in named if value is not UNCHANGED}
    return Stray(relation.schema, relation.name, shown, reason)
