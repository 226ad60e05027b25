"""Reads many rows of one table at once, when they are alike: in one pass of a regular expression over all of them.

No text of PostgreSQL has a byte 0, and every length begins with one, as long as a value is shorter than 64 kB. So the
bytes after a length go on up to the next byte 0, without the one before it that says what follows: there is one way
only to read a row without nulls, and no length has to be looked at. Rows with nulls are read one by one.

What is alike: insertions, and updates that replace one version without changing the key; each row of another key, so
that nothing has to be collapsed and no order matters. Everything else is read as before (`collapse`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from twinstar.engine.postgresql.multiwriter.batch import Swath
from twinstar.engine.postgresql.multiwriter.pgoutput import Relation
from twinstar.engine.postgresql.multiwriter.table import STAMP, Table

FEWEST_ROWS = 200
"""With fewer nothing is gained."""

Row = tuple[bytes | None, ...]

_INSERT, _UPDATE, _OLD = b"IUO"
_TEXT, _NULL = b"tn"
_LENGTH, _VALUE, _END = rb"t\0\0..", rb"[^\0]*", b"\0"


class Swaths:
    """Of one of the peer's tables, whose columns are those of the table here."""

    def __init__(self, table: Table, relation: Relation) -> None:
        self._columns = tuple(column.name for column in relation.columns)
        self._sent = tuple(column.name for column in table.sent_columns)
        key, stamp = [self._columns.index(name) for name in table.key], self._columns.index(STAMP)
        self._key: Callable[[Row], Any] = itemgetter(*key)
        looked_at = self._looked_at = sorted([*key, stamp])
        """What is found of a row that was replaced; it comes before what the row is now."""
        self._both = (*[""] * len(looked_at), *self._columns)
        self._replaced = looked_at.index(stamp)
        self._key_before: Callable[[Row], Any] = itemgetter(*map(looked_at.index, key))
        places = range(len(self._columns))
        number, count = re.escape(relation.id.to_bytes(4)), re.escape(len(places).to_bytes(2))
        new = count + (_LENGTH + b"(" + _VALUE + b")") * len(places)
        old = count + b"".join(
            [_LENGTH + (b"(?P<c%d>%b)" % (at, _VALUE) if at in looked_at else _VALUE) for at in places]
        )
        same = count + b"".join([_LENGTH + b"(" + (b"(?P=c%d)" % at if at in key else _VALUE) + b")" for at in places])
        self._insertions = re.compile(b"I" + number + b"N" + new + _END, re.DOTALL)
        self._updates = re.compile(b"U" + number + b"O" + old + b"N" + same + _END, re.DOTALL)

    def of(self, messages: list[bytes]) -> list[Swath] | None:
        """What these insertions and updates are, when they are alike."""
        if len(messages) < FEWEST_ROWS:
            return None
        inserted = [message for message in messages if message[0] == _INSERT]
        updated = [message for message in messages if message[0] == _UPDATE] if len(inserted) < len(messages) else []
        try:
            new = self._read_insertions(inserted)
            replacing = self._read_updates(updated)
        except ValueError:
            return None
        if len({*map(self._key_before, replacing), *map(self._key, new)}) < len(messages):
            return None
        swaths = []
        if new:
            swaths.append(Swath(self._columns, new, None, self._sent, STAMP))
        if replacing:
            swaths.append(Swath(self._both, replacing, self._replaced, self._sent, STAMP))
        return swaths

    def _read_insertions(self, messages: list[bytes]) -> list[Row]:
        """Raises ValueError where a value was not sent."""
        found = _find(self._insertions, messages)
        return [_read(message, 6)[0] for message in messages] if found is None else found

    def _read_updates(self, messages: list[bytes]) -> list[Row]:
        """What is looked at of each row that was replaced, and the row. Raises ValueError where one is not alike."""
        rows = _find(self._updates, messages)
        if rows is None:
            rows = []
            for message in messages:
                old, at = _read(message, 6)
                new, _ = _read(message, at + 1)
                if message[5] != _OLD or self._key(old) != self._key(new):
                    raise ValueError("another key")
                rows.append((*[old[place] for place in self._looked_at], *new))
        versions = set(map(itemgetter(self._replaced), rows))
        if None in versions or b"0" in versions:
            raise ValueError("a row that was never written")
        return rows


def _find(pattern: re.Pattern[bytes], messages: list[bytes]) -> list[Row] | None:
    """The rows of the messages; None when not every one of them could be read."""
    found = pattern.findall(_END.join([*messages, b""]))
    return found if len(found) == len(messages) else None


def _read(message: bytes, at: int) -> tuple[Row, int]:
    """A row's values, and where the message goes on after them. Raises ValueError where one was not sent."""
    count = int.from_bytes(message[at : at + 2])
    at += 2
    values: list[bytes | None] = []
    for _ in range(count):
        kind = message[at]
        if kind == _TEXT:
            end = at + 5 + int.from_bytes(message[at + 1 : at + 5])
            values.append(message[at + 5 : end])
            at = end
        elif kind == _NULL:
            values.append(None)
            at += 1
        else:
            raise ValueError(kind)
    return tuple(values), at
