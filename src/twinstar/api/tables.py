"""What may be asked and changed over HTTP on a node that takes writes: its tables, what lost, what waits, its rows.

All of it shows or changes users' rows, so all of it needs the token. Numbers of stamps and digests are longer than
JavaScript's, so programs that read this must keep whole numbers whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twinstar.api.commands import Field
from twinstar.model.comparing import Key, Range, Sum

Details = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """A table to be written to on every node, and its policy."""

    schema: str
    name: str
    counters: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    function: str | None = None

    def fields(self) -> Details:
        """As JSON has it."""
        return {
            "schema": self.schema,
            "table": self.name,
            "counters": list(self.counters),
            "groups": [list(group) for group in self.groups],
            "function": self.function,
        }


class Tables(Protocol):
    """Implemented by the agent of a node that takes writes. Everything raises TwinstarError; results are JSON."""

    async def listed(self) -> Details:
        """`tables`: every ordinary table, with `taken_in` and its policy; `node`: this node's number."""
        ...

    async def check(self, wish: Wish) -> Details:
        """`obstacles`, `columns` (name and type), `key`, `highest` (number given by its sequences), `sum`."""
        ...

    async def add(self, wish: Wish, above: int, equal: Sum | None) -> Details:
        """Takes it in; its sequences go on above this number. `equal`: the rows that every node has; where this one has
        others meanwhile, or when this is None, it sends all of them to the others."""
        ...

    async def leave_out(self, schema: str, name: str) -> Details: ...

    async def conflicts(self, table: tuple[str, str] | None, since: str | None, limit: int) -> Details:
        """`conflicts`: so many of the latest, the latest last. `since`: an ISO 8601 time."""
        ...

    async def conflict(self, number: int) -> Details:
        """One of them."""
        ...

    async def restore(self, number: int) -> Details: ...

    async def dead_letters(self) -> Details: ...

    async def retry(self) -> Details:
        """`applied`: how many dead letters are none any more."""
        ...

    async def key_at(self, schema: str, name: str, within: Range, place: int) -> Details:
        """`key`; null: the range has fewer rows."""
        ...

    async def sum(self, schema: str, name: str, within: Range) -> Details:
        """`rows`, `digest`."""
        ...

    async def listing(self, schema: str, name: str, within: Range, at_most: int) -> Details:
        """`rows`: key, stamp, digest."""
        ...

    async def known(self, schema: str, name: str, keys: list[Key]) -> Details:
        """`known`: of each key the row (stamp, digest, or null) and the tombstone's stamp."""
        ...

    async def send(self, schema: str, name: str, keys: list[Key], anew: bool) -> Details:
        """Sends rows to the others once more, or, `anew`, as new versions."""
        ...


@dataclass(frozen=True, slots=True)
class TableCommand:
    fields: dict[str, Field]
    run: Callable[[Tables, Details], Awaitable[Details]]


_TABLE = {"schema": Field(str, required=True), "table": Field(str, required=True)}
_POLICY = {"counters": Field(list), "groups": Field(list), "function": Field(str)}
_RANGE = {"after": Field(list), "upto": Field(list)}
_KEYS = {"keys": Field(list, required=True)}

TABLE_COMMANDS: dict[str, TableCommand] = {
    "tables/list": TableCommand({}, lambda tables, _: tables.listed()),
    "tables/check": TableCommand(_TABLE | _POLICY, lambda tables, body: tables.check(_wish(body))),
    "tables/add": TableCommand(
        _TABLE | _POLICY | {"above": Field(int, required=True), "rows": Field(int), "digest": Field(int)},
        lambda tables, body: tables.add(_wish(body), body["above"], _sum(body)),
    ),
    "tables/remove": TableCommand(_TABLE, lambda tables, body: tables.leave_out(body["schema"], body["table"])),
    "conflicts/list": TableCommand(
        {"schema": Field(str), "table": Field(str), "since": Field(str), "limit": Field(int, default=100)},
        lambda tables, body: tables.conflicts(
            (body["schema"], body["table"]) if body["table"] else None, body["since"], body["limit"]
        ),
    ),
    "conflicts/show": TableCommand(
        {"number": Field(int, required=True)}, lambda tables, body: tables.conflict(body["number"])
    ),
    "conflicts/restore": TableCommand(
        {"number": Field(int, required=True)}, lambda tables, body: tables.restore(body["number"])
    ),
    "dead-letters/list": TableCommand({}, lambda tables, _: tables.dead_letters()),
    "dead-letters/retry": TableCommand({}, lambda tables, _: tables.retry()),
    "rows/key-at": TableCommand(
        _TABLE | _RANGE | {"place": Field(int, required=True)},
        lambda tables, body: tables.key_at(body["schema"], body["table"], _range(body), body["place"]),
    ),
    "rows/sum": TableCommand(
        _TABLE | _RANGE, lambda tables, body: tables.sum(body["schema"], body["table"], _range(body))
    ),
    "rows/list": TableCommand(
        _TABLE | _RANGE | {"at_most": Field(int, required=True)},
        lambda tables, body: tables.listing(body["schema"], body["table"], _range(body), body["at_most"]),
    ),
    "rows/known": TableCommand(
        _TABLE | _KEYS, lambda tables, body: tables.known(body["schema"], body["table"], _keys(body))
    ),
    "rows/send": TableCommand(
        _TABLE | _KEYS | {"anew": Field(bool, default=False)},
        lambda tables, body: tables.send(body["schema"], body["table"], _keys(body), body["anew"]),
    ),
}


def _wish(body: Details) -> Wish:
    groups = tuple([_texts(group) for group in body["groups"] or ()])
    return Wish(body["schema"], body["table"], _texts(body["counters"] or ()), groups, body["function"])


def _sum(body: Details) -> Sum | None:
    return None if body["rows"] is None else Sum(body["rows"], body["digest"])


def _range(body: Details) -> Range:
    after, upto = body["after"], body["upto"]
    return Range(None if after is None else _texts(after), None if upto is None else _texts(upto))


def _keys(body: Details) -> list[Key]:
    return [_texts(key) for key in body["keys"]]


def _texts(values: Any) -> tuple[str, ...]:
    return tuple([str(value) for value in values])
