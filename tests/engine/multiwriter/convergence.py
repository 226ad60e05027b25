"""Three nodes, clients on all of them, and everything that can go wrong in between: in the end all are equal.

A seed decides what clients do, what breaks and whose clock is wrong; when exactly is the machine's to say.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.engine.multiwriter.appliers import Applier, Node, join
from tests.engine.postgresql.lab import Server
from tests.stopping import stop
from twinstar.engine.postgresql.multiwriter import collecting
from twinstar.engine.postgresql.multiwriter.names import slot_name
from twinstar.engine.postgresql.multiwriter.table import Policy, slug_of
from twinstar.engine.postgresql.multiwriter.upkeep import run_repairs, settle
from twinstar.rules.active_active.collecting import Report, collectable
from twinstar.rules.active_active.stamps import NONE

DEFINITIONS = (
    "CREATE TABLE items (id int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0, code int UNIQUE, big text)",
    "CREATE TABLE pairs (a int, b text, v numeric, at timestamptz DEFAULT now(), PRIMARY KEY (a, b))",
    "CREATE TABLE counted (id int PRIMARY KEY, label text, hits int DEFAULT 0 NOT NULL, stock numeric(9) DEFAULT 0 "
    "NOT NULL)",
    "INSERT INTO counted SELECT i FROM generate_series(0, 4) AS i",
    "CREATE TABLE grouped (id int PRIMARY KEY, a int, b int, c text, d text, e bigint NOT NULL DEFAULT 0)",
    "CREATE TABLE passing (id int PRIMARY KEY, v text)",
    "CREATE TABLE ends (id int PRIMARY KEY, turn int)",
)
TABLES: dict[str, Policy | None] = {
    "items": None,
    "pairs": None,
    "counted": Policy(counters=("hits", "stock")),
    "grouped": Policy(groups=(("a", "b"), ("c",)), counters=("e",)),
    "passing": None,
    "ends": None,
}
KEYS, CODES = 25, 40
_SKEW_US = 5_000_000
_WITHIN_S = 90.0
_EXPECTED = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    # A connection that was lost.
    psycopg.OperationalError,
    psycopg.InterfaceError,
)

Random = random.Random


def _same_key(name: str) -> str:
    return " AND ".join(f"t.{column} = d.{column}" for column in (("a", "b") if name == "pairs" else ("id",)))


def insert_item(rng: Random) -> str:
    code = rng.choice(("NULL", str(rng.randrange(CODES))))
    values = f"{rng.randrange(KEYS)}, '{rng.random()}', {rng.randrange(100)}, {code}, {_big(rng)}"
    then = rng.choice(("NOTHING", "UPDATE SET v = EXCLUDED.v, big = EXCLUDED.big"))
    return f"INSERT INTO items VALUES ({values}) ON CONFLICT (id) DO {then}"


def _big(rng: Random) -> str:
    """Stored out of line every other time, so that updates of other columns do not send it."""
    return f"'{rng.randbytes(rng.choice((5, 3000))).hex()}'"


def update_item(rng: Random) -> str:
    change = rng.choice(
        (
            f"v = '{rng.random()}'",
            "n = n + 1",
            f"code = {rng.randrange(CODES)}",
            "code = NULL",
            f"big = {_big(rng)}",
            f"id = {rng.randrange(KEYS)}",
        )
    )
    return f"UPDATE items SET {change} WHERE id = {rng.randrange(KEYS)}"


def update_many(rng: Random) -> str:
    first = rng.randrange(KEYS)
    return f"UPDATE items SET n = n + 10 WHERE id BETWEEN {first} AND {first + 5}"


def delete_item(rng: Random) -> str:
    return f"DELETE FROM items WHERE id = {rng.randrange(KEYS)}"


def write_pair(rng: Random) -> str:
    key = f"{rng.randrange(4)}, '{rng.choice('äßQ')}'"
    return rng.choice(
        (
            f"INSERT INTO pairs VALUES ({key}, {rng.random()}) ON CONFLICT (a, b) DO UPDATE SET v = EXCLUDED.v",
            f"UPDATE pairs SET v = v + 1, at = now() WHERE (a, b) = ({key})",
            f"DELETE FROM pairs WHERE (a, b) = ({key})",
        )
    )


def write_grouped(rng: Random) -> str:
    key = rng.randrange(6)
    number = rng.randrange(1000)
    change = rng.choice(
        (f"a = {number}, b = {number}", f"c = '{number}'", f"d = '{number}'", "e = e + 1", f"d = '{number}', e = e - 1")
    )
    return rng.choice(
        (
            f"INSERT INTO grouped VALUES ({key}, {number}, {number}, '{number}', '{number}', 3) ON CONFLICT DO NOTHING",
            *(f"UPDATE grouped SET {change} WHERE id = {key}",) * 3,
            f"DELETE FROM grouped WHERE id = {key}",
        )
    )


def _shown(row: dict[str, Any]) -> str:
    """What is not there yet, because nobody has written to the row since it was taken in, has a meaning."""
    first = {"twinstar_stamp": 0, "twinstar_born": 0, "twinstar_base": -1}
    return repr(sorted((name, first.get(name) if value is None else value) for name, value in row.items()))


@dataclass(frozen=True)
class Added:
    """A statement that adds to both counters of a row."""

    key: int
    amount: int
    insert: bool

    def __str__(self) -> str:
        if self.insert:
            return (
                f"INSERT INTO counted VALUES ({self.key}, 'new', {self.amount}, {self.amount}) ON CONFLICT (id) "
                f"DO UPDATE SET hits = counted.hits + {self.amount}, stock = counted.stock + {self.amount}"
            )
        return f"UPDATE counted SET hits = hits + {self.amount}, stock = stock + {self.amount} WHERE id = {self.key}"


def add(rng: Random, level: str) -> Added:
    # Above READ COMMITTED an inserted row counts from itself on.
    insert = level == "read committed" and rng.random() < 0.5
    return Added(rng.randrange(10), rng.randint(-5, 9), insert)


def write_passing(rng: Random) -> str:
    """Of many keys each one seldom, so that tombstones become old."""
    key = rng.randrange(300)
    return rng.choice(
        (
            f"INSERT INTO passing SELECT i, '{rng.random()}' FROM generate_series({key}, {key + 9}) AS i "
            "ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v",
            f"DELETE FROM passing WHERE id BETWEEN {key} AND {key + 9}",
        )
    )


def relabel(rng: Random) -> str:
    return f"UPDATE counted SET label = '{rng.random()}' WHERE id = {rng.randrange(10)}"


STATEMENTS: tuple[tuple[Callable[[Random], str], int], ...] = (
    (insert_item, 5),
    (update_item, 8),
    (update_many, 1),
    (delete_item, 3),
    (write_pair, 4),
    (write_grouped, 6),
    (relabel, 1),
    (write_passing, 3),
)


@dataclass
class World:
    """The nodes, and what was done to them."""

    nodes: list[Node]
    rng: Random
    durability: str
    collecting: bool
    """Whether tombstones are forgotten; then nodes may have different ones."""
    strikes: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    """Transactions by how they ended."""
    sums: dict[int, list[int]] = field(default_factory=lambda: {key: [0, 0] for key in range(10)})
    """The least and the greatest that a counter may be: they differ by what nobody knows to be committed."""
    over: bool = False

    # -- clients ---------------------------------------------------------------------------------------------------

    async def client(self, node: Node, seed: int) -> None:
        rng = Random(seed)
        while not self.over:
            with suppress(psycopg.Error):
                async with await node.session() as connection:
                    while not self.over:
                        await self._transaction(connection, rng)
            await asyncio.sleep(0.05)

    async def _transaction(self, connection: psycopg.AsyncConnection[Any], rng: Random) -> None:
        level = rng.choice(("read committed", "read committed", "repeatable read", "serializable"))
        makers, weights = zip(*STATEMENTS, strict=True)
        statements: list[str | Added] = [
            make(rng) for make in rng.choices(makers, weights, k=rng.choice((1, 1, 1, 2, 4)))
        ]
        if rng.random() < 0.2:
            statements.append(add(rng, level))
        added: list[Added] = []
        committing = False
        try:
            await connection.execute(f"BEGIN ISOLATION LEVEL {level}".encode())
            for statement in statements:
                cursor = await connection.execute(str(statement).encode())
                if isinstance(statement, Added) and cursor.rowcount:
                    added.append(statement)
            committing = rng.random() > 0.1
            await connection.execute(b"COMMIT" if committing else b"ROLLBACK")
            self.done["ended"] += 1
            self._count(added if committing else [])
        except _EXPECTED as error:
            self.done[type(error).__name__] += 1
            if committing and (error.sqlstate or "")[:2] not in ("23", "40"):
                self._count(added, known=False)
            await connection.rollback()
        await asyncio.sleep(rng.random() * 0.01)

    def _count(self, added: list[Added], *, known: bool = True) -> None:
        for each in added:
            least, greatest = self.sums[each.key]
            self.sums[each.key] = [
                least + (each.amount if known else min(0, each.amount)),
                greatest + (each.amount if known else max(0, each.amount)),
            ]

    async def upkeep(self, node: Node) -> None:
        """What a node's agent does now and then."""
        while not self.over:
            with suppress(psycopg.Error):
                async with await node.session() as connection:
                    while not self.over:
                        await run_repairs(connection)
                        await settle(connection)
                        if self.collecting:
                            await self._collect(node, connection)
                        await asyncio.sleep(0.2)
            await asyncio.sleep(0.2)

    async def _collect(self, node: Node, connection: psycopg.AsyncConnection[Any]) -> None:
        """As soon as it is allowed."""
        others = [other.number for other in self.nodes if other is not node]
        await collecting.report(connection, 0)
        noted = await collecting.cut(connection)
        if noted is not None:
            said = await collecting.reports(connection)
            reports = {member: Report(each.applied, each.floor) for member, each in said.items()}
            horizon = collectable(noted.streams, reports, others, await collecting.raise_floor(connection, 0))
            if horizon == NONE:
                return
            self.done["forgotten"] += await collecting.collect(connection, horizon, noted)
        await collecting.note_cut(connection, others)

    # -- strikes ---------------------------------------------------------------------------------------------------

    async def strike(self, transactions: int) -> None:
        """One after the other, until clients have done so much; some are still felt when the next one comes."""
        strikes = (self._cut, self._cut, self._kill_applier, self._kill_database, self._end_sessions)
        while self.done["ended"] < transactions:
            await asyncio.sleep(self.rng.random() * 0.6)
            # Nothing is forgotten while a stream stands still.
            if self.rng.random() < (0.9 if self.collecting else 0.4):
                self.heal()
            strike = self.rng.choice(strikes)
            node = self.rng.choice(self.nodes)
            self.strikes.append(f"{strike.__name__.strip('_')} {node.number}")
            await strike(node)

    async def _cut(self, node: Node) -> None:
        """One stream stands still for a while."""
        applier = self.rng.choice(list(node.appliers.values()))
        if applier.process is not None:
            stop(applier.process.pid)

    async def _kill_applier(self, node: Node) -> None:
        applier = self.rng.choice(list(node.appliers.values()))
        applier.end(signal.SIGKILL)
        if self.rng.random() < 0.7:
            applier.start()

    async def _kill_database(self, node: Node) -> None:
        await asyncio.to_thread(node.server.kill)
        await asyncio.sleep(self.rng.random() * 0.5)
        await asyncio.to_thread(node.server.start)

    async def _end_sessions(self, node: Node) -> None:
        with suppress(psycopg.Error):
            await asyncio.to_thread(
                node.do, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            )

    def heal(self) -> None:
        for applier in self.appliers():
            if applier.process is None or applier.process.poll() is not None:
                applier.process = None
                applier.start()
            else:
                applier.process.send_signal(signal.SIGCONT)

    def skew(self) -> None:
        """Each node's stamps are taken from a clock of its own."""
        for node in self.nodes:
            # What is forgotten is older than the slowest clock.
            bound = _SKEW_US // (20 if self.collecting else 1)
            off = self.rng.randint(-bound, bound)
            node.do(
                "CREATE OR REPLACE FUNCTION twinstar.now_us() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE "
                f"RETURN (date_part('epoch', clock_timestamp()) * 1000000)::bigint + {off}"
            )

    def appliers(self) -> list[Applier]:
        return [applier for node in self.nodes for applier in node.appliers.values()]

    # -- the end ---------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Returns when every node has received everything, and nobody has anything left to send."""
        deadline = time.monotonic() + _WITHIN_S
        turn = 0
        while True:
            turn += 1
            for node in self.nodes:
                statement = (
                    f"INSERT INTO ends VALUES ({node.number}, {turn}) ON CONFLICT (id) DO UPDATE SET turn = {turn}"
                )
                await asyncio.to_thread(node.do, statement)
            # Streams come in order: who has a node's end has everything before it.
            while not await asyncio.to_thread(self._have, turn):
                assert time.monotonic() < deadline, f"not all has come: {self._standstill()}"
                await asyncio.sleep(0.1)
            left = 0
            for node in self.nodes:
                async with await node.session() as connection:
                    left += await run_repairs(connection) + await settle(connection)
            if not left:
                return

    def _have(self, turn: int) -> bool:
        return all(node.do(f"SELECT count(*) FROM ends WHERE turn = {turn}") == [(3,)] for node in self.nodes)

    def _standstill(self) -> str:
        return "\n".join(
            f"{applier.node.number} from {applier.peer.number}: {applier.state()}\n{applier.log[-1500:]}"
            for applier in self.appliers()
        )

    def conflicts(self) -> int:
        return sum(node.do("SELECT count(*) FROM twinstar.conflicts")[0][0] for node in self.nodes)

    def miscounted(self) -> list[str]:
        """Counters that are not what was added to them."""
        values = {key: (hits, stock) for key, hits, stock in self.nodes[0].do("SELECT id, hits, stock FROM counted")}
        return [
            f"counter {key} is {values.get(key)} instead of {least} to {greatest}"
            for key, (least, greatest) in self.sums.items()
            if not all(least <= value <= greatest for value in values.get(key, (0, 0)))
        ]

    def differences(self) -> list[str]:
        """Rows, tombstones and contributions that are not the same on all nodes."""
        found = []
        for name, policy in TABLES.items():
            slug = slug_of("public", name)
            summed = "{" + ",".join(policy.counters if policy is not None else ()) + "}"
            dead = "to_jsonb(d) - 'twinstar_was' - 'twinstar_unsettled' - 'twinstar_image'"
            queries = [
                f"SELECT to_jsonb(t) FROM {name} AS t",
                f"SELECT {dead} FROM twinstar.deleted_{slug} AS d",
                # What a tombstone keeps counts for as long as there is no row, which has it then; but not its counters,
                # which are summed anew.
                f"SELECT {dead} || (coalesce(d.twinstar_image, '{{}}') - '{summed}'::text[]) "
                f"FROM twinstar.deleted_{slug} AS d WHERE NOT EXISTS (SELECT FROM {name} AS t WHERE {_same_key(name)})",
            ]
            if policy is not None and policy.counters:
                queries.append(f"SELECT to_jsonb(c) FROM twinstar.counted_{slug} AS c")
            for query in queries[:1] if self.collecting else queries:
                states = [{_shown(row) for (row,) in node.do(query)} for node in self.nodes]
                everywhere = set.intersection(*states)
                for node, state in zip(self.nodes, states, strict=True):
                    found += [f"node {node.number} alone or with another: {row[:300]}" for row in state - everywhere]
        letters = [node.do("SELECT name, kind, error, change FROM twinstar.dead_letters") for node in self.nodes]
        return sorted(found) + [f"dead letter: {letter}" for each in letters for letter in each]


async def converge(servers: list[Server], folder: Path, seed: int, transactions: int) -> World:
    """Plays a seed. Whoever asked looks at what is different then."""
    rng = Random(seed)
    nodes = [Node(number, server, "postgres", folder) for number, server in enumerate(servers, 1)]
    world = World(nodes, rng, ("async", "quorum")[seed % 2], collecting=seed % 3 == 0)
    try:
        await join(nodes, *DEFINITIONS, tables=TABLES)
        world.skew()
        for applier in world.appliers():
            applier.changes["durability"] = world.durability
            applier.start()
        if world.durability == "quorum":
            for node in nodes:
                others = ", ".join(slot_name(other.number) for other in nodes if other is not node)
                node.server.set(synchronous_standby_names=f"ANY 1 ({others})")
        async with asyncio.TaskGroup() as tasks:
            for node in nodes:
                tasks.create_task(world.upkeep(node))
                for _ in range(2):
                    tasks.create_task(world.client(node, rng.randrange(2**32)))
            await world.strike(transactions)
            world.over = True
            world.heal()
        await world.settle()
    finally:
        world.over = True
        for applier in world.appliers():
            applier.end(signal.SIGKILL)
    return world
