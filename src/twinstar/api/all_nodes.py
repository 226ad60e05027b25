"""What is asked of all nodes that take writes, and made of their answers: a table taken in, nodes compared.

Whoever asks has a way to each node (`Ask`): the command line and the agents through their HTTP interfaces. `member` is
a node's name everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from twinstar.api.tables import Details, Wish
from twinstar.model.comparing import Key, Known, Range, Sum, Version
from twinstar.model.errors import EngineError, UsageError
from twinstar.ports.clock import Clock
from twinstar.rules.active_active.comparing import (
    CHUNK_ROWS,
    LISTED_ROWS,
    Chunk,
    Comparison,
    Cut,
    How,
    Listing,
    Question,
    Summarise,
    Versions,
    begin,
    repair,
)

Ask = Callable[[str, str, Details], Coroutine[Any, Any, Details]]
"""(member, command, its fields) → details. Raises TwinstarError."""
GROWTH = 10
"""A range that is listed may have this many times the rows that it had when it was summarised."""
KEYS_AT_ONCE = 50
LOOKS = 10
"""So often is a row looked at that goes on changing."""


async def everywhere(members: Iterable[str], ask: Ask, command: str, fields: Details) -> dict[str, Details]:
    """The same question to all. Raises the first TwinstarError."""
    names = list(members)
    answers = await asyncio.gather(*(ask(member, command, fields) for member in names))
    return dict(zip(names, answers, strict=True))


# -- taking tables in -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checked:
    """What stands in the way, by member; `highest`: above which the sequences of all of them can go on."""

    obstacles: Mapping[str, tuple[str, ...]]
    highest: int = 0
    rows: Sum | None = None
    """What all of them have in it; None: one has rows, and the others are to get them."""

    @property
    def free(self) -> bool:
        return not any(self.obstacles.values())


async def check_table(members: Iterable[str], ask: Ask, wish: Wish) -> Checked:
    """Whether the table can be taken in: on each node by itself, and whether it is the same on all of them."""
    answers = await everywhere(members, ask, "tables/check", wish.fields())
    found = {member: [str(each) for each in answer["obstacles"]] for member, answer in answers.items()}
    if not any(found.values()):
        first, model = next(iter(answers.items()))
        alone = sum(answer["sum"]["rows"] > 0 for answer in answers.values()) == 1
        for member, answer in answers.items():
            why = _otherwise(first, model, answer, alone=alone)
            found[member] += [f"{wish.schema}.{wish.name} {each}" for each in why]
    highest = max((answer.get("highest", 0) for answer in answers.values()), default=0)
    sums = [Sum(**answer["sum"]) for answer in answers.values() if "sum" in answer]
    rows = sums[0] if len(set(sums)) == 1 else None
    return Checked({member: tuple(sentences) for member, sentences in found.items()}, highest, rows)


def _otherwise(first: str, model: Details, answer: Details, *, alone: bool) -> list[str]:
    """In what the table is not as on the first node. `alone`: one node has rows, and the others have none."""
    if (answer["columns"], answer["key"]) != (model["columns"], model["key"]):
        return [f"has other columns or another key than on {first}: make them equal."]
    if answer["sum"] != model["sum"] and not (alone or answer["taken_in"] or model["taken_in"]):
        return [
            f"has other rows than on {first} ({answer['sum']['rows']}, there {model['sum']['rows']}): nobody could say "
            "which are right. Make them equal, or empty on all nodes but one."
        ]
    return []


async def add_table(members: Iterable[str], ask: Ask, wish: Wish) -> Checked:
    """Takes the table in on every node, if nothing stands in the way on any. Can be done again."""
    names = list(members)
    checked = await check_table(names, ask, wish)
    if checked.free:
        for member in names:
            equal = {"rows": checked.rows.rows, "digest": checked.rows.digest} if checked.rows else {}
            await ask(member, "tables/add", {**wish.fields(), "above": checked.highest, **equal})
        # What a node wrote before another one had the table waits there.
        await everywhere(names, ask, "dead-letters/retry", {})
    return checked


# -- comparing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verified:
    """What comparing one table has found."""

    schema: str
    name: str
    rows: int = 0
    differing: Mapping[Key, Versions] | None = None
    """Of those that were not repaired."""
    moving: int = 0
    """Rows that went on changing while they were looked at."""
    repaired: int = 0

    @property
    def unequal(self) -> int:
        return len(self.differing or {})


class Verifier:
    """Compares one table on these nodes. `pause_ms`: longer than what is on its way may take."""

    def __init__(self, members: Iterable[str], ask: Ask, clock: Clock, schema: str, name: str, pause_ms: float) -> None:
        self._members = sorted(members)
        self._ask = ask
        self._clock = clock
        self._table: Details = {"schema": schema, "table": name}
        self._pause_ms = pause_ms

    async def compare(self, say: Callable[[Verified], None], rest_ms: float = 0.0) -> Verified:
        """`say` hears how far it has come; `rest_ms`: between two questions. Raises TwinstarError."""
        state = await self._run(begin(self._members[0]), say, rest_ms)
        for _ in range(LOOKS):
            if not state.suspects:
                break
            await self._clock.sleep_ms(self._pause_ms)
            state = await self._run(state.look_again(), say, rest_ms)
        return self._verified(state)

    async def repair(self, found: Verified) -> Verified:
        """Has the rows that differ sent again, and looks once more. Raises TwinstarError."""
        keys = list(found.differing or {})
        for batch in _batches(keys):
            known = await self._known(batch)
            for key in batch:
                how = repair(known[key])
                if how is not None:
                    fields = {**self._table, "keys": [list(key)], "anew": how.how is How.ANEW}
                    await self._ask(how.node, "rows/send", fields)
        left = keys
        for _ in range(LOOKS):
            await self._clock.sleep_ms(self._pause_ms)
            left = [key for batch in _batches(left) for key in await self._still(batch)]
            if not left:
                break
        differing = {key: versions for key, versions in (found.differing or {}).items() if key in set(left)}
        return replace(found, differing=differing, repaired=len(keys) - len(left))

    async def _still(self, keys: list[Key]) -> list[Key]:
        known = await self._known(keys)
        return [key for key in keys if repair(known[key]) is not None]

    async def _run(self, state: Comparison, say: Callable[[Verified], None], rest_ms: float) -> Comparison:
        while state.todo:
            state = await self._answered(state, state.todo[0])
            say(self._verified(state))
            if rest_ms:
                await self._clock.sleep_ms(rest_ms)
        return state

    def _verified(self, state: Comparison) -> Verified:
        return Verified(
            self._table["schema"], self._table["table"], state.compared, state.differing, len(state.suspects)
        )

    async def _answered(self, state: Comparison, question: Question) -> Comparison:
        match question:
            case Chunk(node, after):
                return state.chunk_ended(question, await self._key_at(node, Range(after), CHUNK_ROWS))
            case Cut(node, within, place):
                return state.was_cut(question, await self._key_at(node, within, place))
            case Summarise(within):
                answers = await everywhere(self._members, self._ask, "rows/sum", self._fields(within))
                return state.summarised(question, {m: Sum(a["rows"], a["digest"]) for m, a in answers.items()})
            case Listing(within):
                fields = {**self._fields(within), "at_most": GROWTH * LISTED_ROWS}
                answers = await everywhere(self._members, self._ask, "rows/list", fields)
                return state.listed(question, {member: _rows(answer) for member, answer in answers.items()})

    async def _key_at(self, member: str, within: Range, place: int) -> Key | None:
        key = (await self._ask(member, "rows/key-at", {**self._fields(within), "place": place}))["key"]
        return None if key is None else tuple(key)

    async def _known(self, keys: list[Key]) -> dict[Key, dict[str, Known]]:
        fields = {**self._table, "keys": [list(key) for key in keys]}
        answers = await everywhere(self._members, self._ask, "rows/known", fields)
        found: dict[Key, dict[str, Known]] = {key: {} for key in keys}
        for member, answer in answers.items():
            for key, row, tombstone in answer["known"]:
                found[tuple(key)][member] = Known(Version(*row) if row else None, tombstone)
        return found

    def _fields(self, within: Range) -> Details:
        ends: dict[str, Any] = {"after": within.after, "upto": within.upto}
        return self._table | {name: list(key) for name, key in ends.items() if key is not None}


def _rows(answer: Details) -> dict[Key, Version]:
    return {tuple(key): Version(stamp, digest) for key, stamp, digest in answer["rows"]}


def _batches(keys: list[Key]) -> list[list[Key]]:
    return [keys[begins : begins + KEYS_AT_ONCE] for begins in range(0, len(keys), KEYS_AT_ONCE)]


def taken_in(listed: Mapping[str, Details]) -> list[tuple[str, str]]:
    """The tables that all nodes have taken in, by what each says of its own. Raises UsageError for one that only some
    have.
    """
    of_nodes = {
        member: {(table["schema"], table["name"]) for table in answer["tables"] if table["taken_in"]}
        for member, answer in listed.items()
    }
    for schema, name in sorted(set().union(*of_nodes.values())):
        without = sorted(member for member, tables in of_nodes.items() if (schema, name) not in tables)
        if without:
            raise UsageError(
                f"{schema}.{name} is not taken in on {', '.join(without)}: run `twinstar tables add {schema}.{name}`."
            )
    return sorted(set().union(*of_nodes.values()))


def refused(member: str, message: str) -> EngineError:
    """What a node answered instead of what was asked."""
    return EngineError(f"{member}: {message}")
