"""What a simulated database has on its disk: a log with timelines, and how much of it survives a crash."""

from __future__ import annotations

from dataclasses import dataclass, field

from twinstar.model.engine import Upstream
from twinstar.model.position import Branch, Position

RECORD_BYTES = 64


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a log: the timeline it was written on, and a client's number (None: the database's own)."""

    timeline: int
    number: int | None = None


@dataclass(slots=True)
class Disk:
    log: list[Record] = field(default_factory=list)
    flushed: int = 0
    """So many records are surely on the disk; of the rest a crash may leave any number."""
    exists: bool = False
    incomplete: bool = False
    """A rewind has begun and not ended: not to be started."""
    system_identifier: str = ""
    nonce: str = ""
    upstream: Upstream | None = None
    clean_stop: bool = False

    def append(self, record: Record) -> int:
        """Writes one record, not flushed yet; returns how many there are."""
        self.log.append(record)
        return len(self.log)

    def flush(self, count: int | None = None) -> None:
        self.flushed = max(self.flushed, len(self.log) if count is None else min(count, len(self.log)))

    def crash(self, survive: float) -> None:
        """Loses what was not flushed, but for a share of it that had reached the disk by chance."""
        kept = self.flushed + int((len(self.log) - self.flushed) * survive)
        del self.log[kept:]
        self.flushed = kept

    @property
    def timeline(self) -> int:
        return self.log[self.flushed - 1].timeline if self.flushed else 1

    @property
    def position(self) -> Position:
        """The end of what is flushed."""
        return Position(self.timeline, self.flushed * RECORD_BYTES)

    @property
    def last_record_at(self) -> Position:
        """Where the last record begins."""
        return Position(self.timeline, self.position.lsn - RECORD_BYTES)

    def branch(self) -> Branch:
        """The timelines of the log, and where each was left."""
        ends: dict[int, int] = {}
        for index, record in enumerate(self.log[: self.flushed], 1):
            ends[record.timeline] = index * RECORD_BYTES
        newest = self.timeline
        return Branch(newest, tuple(sorted((t, end) for t, end in ends.items() if t != newest)))

    def is_prefix_of(self, other: Disk) -> bool:
        return len(self.log) <= other.flushed and self.log == other.log[: len(self.log)]

    def numbers(self) -> frozenset[int]:
        """The clients' numbers that a reader would find."""
        return frozenset(r.number for r in self.log if r.number is not None)

    def copy(self) -> Disk:
        """What a new copy of this disk begins with."""
        log = self.log[: self.flushed]
        return Disk(log, len(log), exists=True, system_identifier=self.system_identifier)
