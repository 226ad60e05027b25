"""What a simulated database has on its disk: a log with timelines, how much of it survives a crash."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from twinstar.model.engine import Upstream
from twinstar.model.position import Branch, Position

RECORD_BYTES = 64


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a log: the timeline it was written on, and a client's number (None: the database's own)."""

    timeline: int
    number: int | None = None


class Log:
    """Records in their order. Positions in it are counts of records from its beginning.

    Two logs are never compared by what is in them: PostgreSQL does not either, it goes by timelines and positions.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.records: list[Record] = []
        self.places: dict[int, int] = {}
        """By client's number: how many records there are up to and with the one that holds it."""
        self._begins: list[tuple[int, int]] = []
        """(timeline, how many records there were before its first), oldest first."""
        self.extend(records)

    def __len__(self) -> int:
        return len(self.records)

    def extend(self, records: Iterable[Record]) -> None:
        for record in records:
            if not self._begins or self._begins[-1][0] != record.timeline:
                self._begins.append((record.timeline, len(self.records)))
            self.records.append(record)
            if record.number is not None:
                self.places[record.number] = len(self.records)

    def cut(self, count: int) -> None:
        """Forgets everything after the first `count` records."""
        for record in self.records[count:]:
            if record.number is not None:
                del self.places[record.number]
        del self.records[count:]
        while self._begins and self._begins[-1][1] >= count:
            self._begins.pop()

    def head(self, count: int) -> Log:
        """A log of its own with the first `count` records."""
        copy = Log()
        copy.records, copy.places, copy._begins = self.records[:], self.places.copy(), self._begins[:]
        copy.cut(count)
        return copy

    def timeline(self, count: int) -> int:
        """The timeline of the last of the first `count` records."""
        return next((timeline for timeline, before in reversed(self._begins) if before < count), 1)

    def branch(self, count: int) -> Branch:
        """The timelines of the first `count` records, and where each was left."""
        begun = [(timeline, before) for timeline, before in self._begins if before < count]
        left = tuple((one[0], after[1] * RECORD_BYTES) for one, after in pairwise(begun))
        return Branch(begun[-1][0] if begun else 1, left)


@dataclass(slots=True)
class Disk:
    log: Log = field(default_factory=Log)
    flushed: int = 0
    """So many records are surely on the disk; of the rest a crash may leave any number."""
    redo: int = 0
    """So many records are surely in the data files: a start replays from somewhere after that."""
    torn: int = 0
    """So many bytes of a further record were received: no record, but counted by whoever asks for the received end."""
    oldest: int = 0
    """Log before this record is gone: who needs it cannot follow from here."""
    exists: bool = False
    foreign: bool = False
    """What is there is no database of ours."""
    incomplete: bool = False
    """Something has begun to change it and not ended: not to be started."""
    system_identifier: str = ""
    nonce: str = ""
    upstream: Upstream | None = None
    clean_stop: bool = False
    """Stopped in order, as a primary."""
    slots: set[str] = field(default_factory=set)
    """Members for which there is a replication slot: nobody else can attach."""
    histories: set[int] = field(default_factory=set)
    """Timelines of which there is a history file that says something."""
    placeholders: set[int] = field(default_factory=set)
    """The same, empty: numbers that a promotion must not take."""

    def append(self, record: Record) -> int:
        """Writes one record, not flushed yet; returns how many there are."""
        self.log.extend((record,))
        return len(self.log)

    def flush(self, count: int | None = None) -> None:
        self.flushed = max(self.flushed, len(self.log) if count is None else min(count, len(self.log)))

    def crash(self, survive: float) -> None:
        """Loses what was not flushed, but for a share of it that had reached the disk by chance."""
        kept = self.flushed + int((len(self.log) - self.flushed) * survive)
        self.log.cut(kept)
        self.flushed, self.torn = kept, 0

    @property
    def timeline(self) -> int:
        return self.log.timeline(self.flushed)

    @property
    def position(self) -> Position:
        """The end of what is flushed."""
        return self.position_at(self.flushed)

    def position_at(self, count: int) -> Position:
        return Position(self.log.timeline(count), count * RECORD_BYTES)

    @property
    def last_record_at(self) -> Position:
        """Where the last record begins."""
        return Position(self.timeline, self.position.lsn - RECORD_BYTES)

    def branch(self) -> Branch:
        return self.log.branch(self.flushed)

    def next_timeline(self) -> int:
        """The number that a promotion takes: one more than the newest that follows on without a gap."""
        known, newest = self.histories | self.placeholders, self.timeline
        while newest + 1 in known:
            newest += 1
        return newest + 1

    def knows_the_way(self, since: int) -> bool:
        """Whether there is a history file for every timeline after `since`: a follower asks for each."""
        return all(
            number in self.histories or number in self.placeholders for number in range(since + 1, self.timeline + 1)
        )

    def numbers(self) -> frozenset[int]:
        """The clients' numbers that are in the log."""
        return frozenset(self.log.places)

    def safe_numbers(self) -> frozenset[int]:
        """Those that no crash takes away."""
        return frozenset(number for number, place in self.log.places.items() if place <= self.flushed)

    def copy(self, with_old_log: bool) -> Disk:
        """What a new copy of this disk begins with. Slots are nobody else's."""
        log = self.log.head(self.flushed)
        known = {self.timeline} & self.histories if not with_old_log else set(self.histories)
        return Disk(
            log, len(log), len(log), oldest=self.oldest if with_old_log else len(log), exists=True,
            system_identifier=self.system_identifier, histories=known,
            placeholders=set(self.placeholders) if with_old_log else set(),
        )  # fmt: skip
