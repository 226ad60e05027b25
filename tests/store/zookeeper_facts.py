"""What the simulator's ZooKeeper takes the real one to do: each fact is asked of both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twinstar.store.zookeeper import wire
from twinstar.store.zookeeper.connection import Connection
from twinstar.store.zookeeper.wire import ALL, ANY_VERSION, Code, Grant, Op, Part, Stat

_ANYBODY = [Grant(ALL, "world", "anyone")]
_NOT_EMPTY = -111


async def code(connection: Connection, op: Op, body: bytes) -> int:
    return (await connection.send(op, body)).code


async def made(connection: Connection, path: str) -> None:
    assert await code(connection, Op.CREATE, wire.create(path, b"", _ANYBODY)) == Code.OK


async def transaction(connection: Connection, *parts: tuple[Op, bytes]) -> list[Part]:
    answer = await connection.send(Op.MULTI, wire.multi(parts))
    assert answer.code == Code.OK
    return wire.parts(answer.body)


async def stat(connection: Connection, path: str) -> Stat:
    return (await connection.send(Op.EXISTS, wire.at(path))).body.stat()


def codes(parts: Sequence[Part]) -> list[int]:
    return [part.code for part in parts]


async def a_failed_transaction_changes_nothing_and_takes_a_number(connection: Connection, path: str) -> None:
    await made(connection, path)
    before = await stat(connection, path)
    failed = await transaction(
        connection,
        (Op.SET_DATA, wire.set_data(path, b"1", 0)),
        (Op.CHECK, wire.versioned(path, 0)),
        (Op.CREATE, wire.create(f"{path}/below", b"", _ANYBODY)),
    )
    assert codes(failed) == [Code.OK, Code.BAD_VERSION, Code.NOT_TRIED]
    assert await stat(connection, path) == before
    assert codes(await transaction(connection, (Op.CHECK, wire.versioned(f"{path}/none", ANY_VERSION)))) == [
        Code.NO_NODE
    ]
    (after,) = await transaction(connection, (Op.SET_DATA, wire.set_data(path, b"1", 0)))
    assert after.stat is not None
    assert after.stat.modified >= before.modified + 3


async def each_part_sees_those_before_it(connection: Connection, path: str) -> None:
    await made(connection, path)
    key = f"{path}/k"
    parts = await transaction(
        connection,
        (Op.CHECK, wire.versioned(path, 0)),
        (Op.CREATE, wire.create(key, b"", _ANYBODY)),
        (Op.SET_DATA, wire.set_data(key, b"1", 0)),
    )
    assert codes(parts) == [Code.OK] * 3
    assert parts[-1].stat == await stat(connection, key)
    assert (await stat(connection, key)).version == 1
    assert (await stat(connection, path)).below == (await stat(connection, key)).modified


async def a_node_counts_what_is_done_below_it_apart(connection: Connection, path: str) -> None:
    await made(connection, path)
    await made(connection, f"{path}/k")
    first = await stat(connection, path)
    await transaction(connection, (Op.SET_DATA, wire.set_data(f"{path}/k", b"1", ANY_VERSION)))
    assert await stat(connection, path) == first
    await transaction(
        connection,
        (Op.SET_DATA, wire.set_data(path, b"", ANY_VERSION)),
        (Op.DELETE, wire.versioned(f"{path}/k", ANY_VERSION)),
    )
    second = await stat(connection, path)
    assert (second.version, second.below) == (1, second.modified)
    assert second.below > first.below > first.modified


async def what_is_refused(connection: Connection, path: str) -> None:
    await made(connection, path)
    await made(connection, f"{path}/k")
    assert await code(connection, Op.EXISTS, wire.at(f"{path}/none")) == Code.NO_NODE
    assert await code(connection, Op.GET_DATA, wire.at(f"{path}/none")) == Code.NO_NODE
    assert await code(connection, Op.GET_CHILDREN, wire.at(f"{path}/none")) == Code.NO_NODE
    assert await code(connection, Op.GET_ACL, wire.get_acl(f"{path}/none")) == Code.NO_NODE
    assert await code(connection, Op.CREATE, wire.create(f"{path}/no/ne", b"", _ANYBODY)) == Code.NO_NODE
    assert await code(connection, Op.CREATE, wire.create(path, b"", _ANYBODY)) == Code.NODE_EXISTS
    assert await code(connection, Op.CREATE, wire.create(f"{path}/none", b"", [])) == Code.INVALID_ACL
    assert await code(connection, Op.SET_DATA, wire.set_data(path, b"", 7)) == Code.BAD_VERSION
    assert await code(connection, Op.DELETE, wire.versioned(path, ANY_VERSION)) == _NOT_EMPTY
    assert await code(connection, Op.DELETE, wire.versioned(f"{path}/k", 7)) == Code.BAD_VERSION


async def what_stands_is_shown(connection: Connection, path: str) -> None:
    acl = [Grant(ALL, "world", "anyone"), Grant(wire.READ, "digest", "somebody:else")]
    assert await code(connection, Op.CREATE, wire.create(path, b"data", acl)) == Code.OK
    for name in ("a", "b"):
        await made(connection, f"{path}/{name}")
    await made(connection, f"{path}/a/below")
    node = (await connection.send(Op.GET_DATA, wire.at(path))).body.node()
    assert (node.data, node.stat) == (b"data", await stat(connection, path))
    assert (await connection.send(Op.GET_ACL, wire.get_acl(path))).body.grants() == acl
    assert sorted((await connection.send(Op.GET_CHILDREN, wire.at(path))).body.texts()) == ["a", "b"]
    assert (await connection.send(Op.SYNC, wire.text(path))).body.text() == path


async def an_event_comes_before_the_answer_to_what_caused_it(connection: Connection, path: str) -> None:
    await made(connection, path)
    told: list[str | None] = []
    listener = told.append
    connection.listen(listener)
    for _ in range(2):  # a second watch on the same path changes nothing
        assert await code(connection, Op.ADD_WATCH, wire.watch_below(path)) == Code.OK
    key = f"{path}/k"
    changes = (Op.CREATE, wire.create(key, b"", _ANYBODY)), (Op.SET_DATA, wire.set_data(key, b"", 0))
    await transaction(connection, *changes)
    assert told == [key, key]
    assert await code(connection, Op.SET_DATA, wire.set_data(path, b"", 0)) == Code.OK
    assert await code(connection, Op.DELETE, wire.versioned(key, 1)) == Code.OK
    assert told == [key, key, path, key]
    connection.leave(listener)


Fact = Callable[[Connection, str], Awaitable[None]]

FACTS: tuple[Fact, ...] = (
    a_failed_transaction_changes_nothing_and_takes_a_number,
    each_part_sees_those_before_it,
    a_node_counts_what_is_done_below_it_apart,
    what_is_refused,
    what_stands_is_shown,
    an_event_comes_before_the_answer_to_what_caused_it,
)
"""Each on a connection, at a path of its own."""
