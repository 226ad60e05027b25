"""From the messages of a peer to batches: whatever has come is one batch, and in it each key occurs once.

A batch ends where a transaction ends, so that what one transaction did is seen at once here, too. Only one that is
larger than a batch may be is handed on in parts; whoever applies them commits after the last. From one peer the
versions of a key only grow, so the last image is the one that counts; the first version that was replaced is kept,
because a row here with that version is replaced by its successor, and that is no conflict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

from twinstar.engine.postgresql.multiwriter.batch import Burial, Changes, Contribution, Image
from twinstar.engine.postgresql.multiwriter.pgoutput import (
    UNCHANGED,
    Begin,
    Commit,
    Insert,
    Message,
    Relation,
    Update,
    Values,
)
from twinstar.engine.postgresql.multiwriter.table import GROUPS, STAMP, Table

MAXIMUM_ROWS = 2_000
MAXIMUM_BYTES = 4 * 1024 * 1024


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

    def add(self, old: Values | None, new: Values) -> None: ...

    def hand_over(self, harvest: Harvest) -> None:
        """All that has been added; it is empty again."""
        ...


class Rows:
    """The rows of a table itself."""

    def __init__(self, table: Table, relation: Relation) -> None:
        names = [column.name for column in relation.columns]
        wanted = [column.name for column in table.sent_columns]
        self._table = table
        self._relation = relation
        self._arranged = None if names == wanted else _picking(names, wanted)
        self._key = itemgetter(*(wanted.index(name) for name in table.key))
        self._stamp = wanted.index(STAMP)
        self._groups = wanted.index(GROUPS) if GROUPS in wanted else None
        self._knew_nothing, self._found = (",".join([number] * len(table.cells)) for number in ("-1", "0"))
        self._images: dict[Any, Image] = {}
        self._strays: list[Stray] = []

    def add(self, old: Values | None, new: Values) -> None:
        if UNCHANGED in new and any(value is UNCHANGED for value in new):
            reason = "an unchanged value was not sent: the table needs REPLICA IDENTITY FULL on the peer"
            self._strays.append(_stray(self._relation, new, reason))
            return
        if self._arranged is not None:
            new = self._arranged(new)
            old = self._arranged(old) if old else old
        key = self._key(new)
        # A row whose key was changed is new under this key; the old one has got a tombstone.
        was = int(old[self._stamp] or 0) if old is not None and self._key(old) == key else 0
        known = self._images.get(key)
        image = Image(new, int(new[self._stamp] or 0), was if known is None else known.was, was)
        if self._groups is not None:
            knew = self._knew_nothing
            if old is not None and self._key(old) == key:
                knew = (old[self._groups] or self._found).strip("{}")
            image = image._replace(knew=knew if known is None else known.knew, last_knew=knew)
        self._images[key] = image

    def hand_over(self, harvest: Harvest) -> None:
        if self._images:
            harvest.changes(self._table).images.extend(self._images.values())
            self._images = {}
        if self._strays:
            harvest.strays += self._strays
            self._strays = []


class Burials:
    """The rows of a table's companion: tombstones."""

    def __init__(self, table: Table, relation: Relation) -> None:
        names = [column.name for column in relation.columns]
        self._table = table
        self._key = _picking(names, table.key)
        self._stamp, self._was = names.index(STAMP), names.index("twinstar_was")
        self._image = names.index("twinstar_image") if "twinstar_image" in names else None
        self._burials: dict[Values, Burial] = {}

    def add(self, _old: Values | None, new: Values) -> None:
        key: Any = self._key(new)
        image = None if self._image is None else new[self._image]
        self._burials[key] = Burial(key, int(new[self._stamp] or 0), int(new[self._was] or 0), image)

    def hand_over(self, harvest: Harvest) -> None:
        if self._burials:
            harvest.changes(self._table).burials.extend(self._burials.values())
            self._burials = {}


class Contributions:
    """The rows of a table's counters."""

    def __init__(self, table: Table, relation: Relation) -> None:
        names = [column.name for column in relation.columns]
        self._table = table
        self._key = _picking(names, table.key)
        self._numbers = _picking(names, ("twinstar_born", "twinstar_node", "twinstar_writes"))
        self._sums = _picking(names, table.counters)
        self._contributions: dict[tuple[Values, int, int], Contribution] = {}

    def add(self, _old: Values | None, new: Values) -> None:
        key: Any = self._key(new)
        sums: Any = self._sums(new)
        born, node, writes = (int(number or 0) for number in self._numbers(new))
        self._contributions[key, born, node] = Contribution(key, born, node, writes, sums)

    def hand_over(self, harvest: Harvest) -> None:
        if self._contributions:
            harvest.changes(self._table).contributions.extend(self._contributions.values())
            self._contributions = {}


class Strays:
    """The rows of a table that cannot be taken in here."""

    def __init__(self, relation: Relation, reason: str) -> None:
        self._relation, self._reason = relation, reason
        self._strays: list[Stray] = []

    def add(self, _old: Values | None, new: Values) -> None:
        self._strays.append(_stray(self._relation, new, self._reason))

    def hand_over(self, harvest: Harvest) -> None:
        harvest.strays += self._strays
        self._strays = []


class Collector:
    """Collects messages until somebody takes what has come."""

    def __init__(self, maximum_rows: int = MAXIMUM_ROWS, maximum_bytes: int = MAXIMUM_BYTES) -> None:
        self._maximum_rows, self._maximum_bytes = maximum_rows, maximum_bytes
        self._relations: dict[int, Relation] = {}
        self._sinks: dict[int, Sink] = {}
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

    def add(self, message: Message, length: int) -> None:
        """Anything but a Relation; `length` in bytes. Deletions are not looked at: tombstones say more."""
        if isinstance(message, Insert):
            self._sinks[message.relation].add(None, message.new)
            self._rows += 1
            self._bytes += length
        elif isinstance(message, Begin):
            self.open = True
            self._begun_us = message.time_us
            self.oldest_us = self.oldest_us or message.time_us
        elif isinstance(message, Commit):
            self.open = False
            self._transactions += 1
            self._end_lsn, self._time_us = message.end_lsn, message.time_us
        elif isinstance(message, Update):
            self._sinks[message.relation].add(message.old, message.new)
            self._rows += 1
            self._bytes += length

    def take(self) -> Batch:
        """What has been collected; it begins anew."""
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

    def _collect(self) -> None:
        harvest = Harvest()
        for sink in self._sinks.values():
            sink.hand_over(harvest)
        self._parts += harvest.parts.values()
        self._strays += harvest.strays


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
