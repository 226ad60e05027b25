"""A cluster's keys as znodes, and what is done with them over one connection.

**Layout.** One znode for the cluster, ``<chroot>/twinstar/<cluster>``, and one below it for each key, its name the key
with everything but letters, digits, ``_`` and ``-`` escaped. One level: no key needs a parent of its own, and one watch
sees all.

**Revision.** A key's revision is its znode's `mzxid`, the ensemble's own number of the transaction that last changed
it: it grows over all keys and is not used twice, also when a key was deleted and made anew.

**Compare-and-set.** ZooKeeper compares versions alone, and those begin again with each znode: a deletion and a creation
between reading and setting could bring back the very version that was read. So each deletion, in the same
transaction, also sets the cluster's znode, whose own version thereby counts deletions; and each change is a transaction
that checks this count, read *before* the key was. If it holds, nothing was deleted in between: the znode is the one
that was read, and at its version it is at the revision that was expected. That excludes as well what has been on its
way since before a deletion.

**Reads** that must not be old follow a transaction that changes nothing (a check of the cluster's znode) on the same
connection. ZooKeeper's own `sync` is weaker: a leader that has been replaced and does not know it yet answers it alone,
without asking a majority; for as long as that lasts, a read after it may be old. The transaction needs the majority.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass
from urllib.parse import quote, unquote

from twinstar.store.base import ABSENT, Applied, Conflict, Versioned, root
from twinstar.store.race import Attempt
from twinstar.store.zookeeper import wire
from twinstar.store.zookeeper.connection import Connection
from twinstar.store.zookeeper.server import Login, Refused
from twinstar.store.zookeeper.wire import ANY_VERSION, Code, Grant, Node, Op, Part, Reply, Stat

_DATA = b"a cluster of Twinstar's; its version counts deletions"
_ANYBODY = Grant(wire.ALL, "world", "anyone")
_LOOK_AGAIN = {Code.NO_NODE, Code.BAD_VERSION, Code.NODE_EXISTS, Code.NOT_TRIED}
"""What a transaction ends in when something has changed since its parts were read."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All values below a prefix as they stood at one moment; it is not before transaction `as_of`."""

    values: list[Versioned]
    as_of: int


@dataclass(frozen=True, slots=True)
class Gone:
    """A key that did not exist at some moment; it is not before transaction `as_of`, nor is its deletion after that."""

    key: str
    as_of: int


class Znodes:
    def __init__(self, chroot: str, cluster: str, login: Login | None) -> None:
        self.path = chroot.rstrip("/") + root(cluster).rstrip("/")
        self._login = login

    # -- names --

    def path_of(self, key: str) -> str:
        return f"{self.path}/{quote(key, safe='').replace('.', '%2E').replace('~', '%7E')}"

    def key_at(self, path: str) -> str | None:
        """None for a path that is no key's."""
        name = path.removeprefix(f"{self.path}/")
        return None if name == path else unquote(name)

    # -- requests --

    async def read(self, connection: Connection, key: str) -> Versioned | None:
        barrier = self._barrier(connection)
        found = connection.send(Op.GET_DATA, wire.at(self.path_of(key)))
        _made(await barrier)
        return _versioned(key, await found)

    async def listing(self, connection: Connection, prefix: str) -> Listing:
        """Found twice alike, or nothing applied meanwhile: then all of it stood at one moment."""
        _made(await self._barrier(connection))
        before: Listing | None = None
        while True:
            cluster = await connection.send(Op.EXISTS, wire.at(self.path))
            stat = _stat(cluster)
            names = await connection.send(Op.GET_CHILDREN, wire.at(self.path))
            if names.code == Code.NO_NODE:
                return Listing([], cluster.applied)
            if stat is None:
                continue
            keys = sorted(key for name in _checked(names).body.texts() if (key := unquote(name)).startswith(prefix))
            asked = [connection.send(Op.GET_DATA, wire.at(self.path_of(key))) for key in keys]
            answers = [await answer for answer in asked]
            values = [_versioned(key, answer) for key, answer in zip(keys, answers, strict=True)]
            found = Listing([value for value in values if value is not None], stat.below)
            if found == before or (answers[-1] if answers else names).applied == cluster.applied:
                return found
            before = found

    async def compare_and_set(
        self, connection: Connection, key: str, value: bytes, expected_revision: int, attempt: Attempt
    ) -> Applied | Conflict:
        path = self.path_of(key)
        while True:
            count = connection.send(Op.EXISTS, wire.at(self.path))
            there = connection.send(Op.EXISTS, wire.at(path))
            acl = connection.send(Op.GET_ACL, wire.get_acl(self.path)) if expected_revision == ABSENT else None
            cluster, found = _stat(await count), _stat(await there)
            if cluster is None:
                await self._make(connection)
                continue
            if (found.modified if found else ABSENT) != expected_revision:
                current = await self.read(connection, key)  # this server may be behind
                if (current.revision if current else ABSENT) != expected_revision:
                    return Conflict(current)
                continue
            change = [(Op.CHECK, wire.versioned(self.path, cluster.version))]
            if acl is not None:  # made and then set, since the answer to the setting alone tells the revision
                change.append((Op.CREATE, wire.create(path, b"", _grants(await acl))))
            change.append((Op.SET_DATA, wire.set_data(path, value, found.version if found else 0)))
            attempt.sent = True
            parts = _outcome(await connection.send(Op.MULTI, wire.multi(change)))
            attempt.sent = False
            made = parts[-1].stat
            if made is not None:
                return Applied(made.modified)

    async def delete(self, connection: Connection, key: str) -> None:
        count = Op.SET_DATA, wire.set_data(self.path, _DATA, ANY_VERSION)
        deletion = Op.DELETE, wire.versioned(self.path_of(key), ANY_VERSION)
        _outcome(await connection.send(Op.MULTI, wire.multi([count, deletion])))

    # -- a watch's --

    async def watch(self, connection: Connection) -> None:
        """From now on the connection's listeners are told of each change of a key. A second time changes nothing."""
        _checked(await connection.send(Op.ADD_WATCH, wire.watch_below(self.path)))

    async def news(self, connection: Connection, key: str) -> Versioned | Gone:
        """What this server has of the key: after its event, the change or a later one."""
        path = self.path_of(key)
        while True:
            found = _versioned(key, await connection.send(Op.GET_DATA, wire.at(path)))
            if found is not None:
                return found
            # the order matters: the key's absence is then not older than the last deletion that is counted
            count = connection.send(Op.EXISTS, wire.at(self.path))
            again = connection.send(Op.EXISTS, wire.at(path))
            answer = await count
            cluster = _stat(answer)
            if _stat(await again) is None:
                return Gone(key, cluster.below if cluster else answer.applied)

    async def in_touch(self, connection: Connection) -> None:
        """Returns when the server has heard from its leader, and told of all changes up to then."""
        _checked(await connection.send(Op.SYNC, wire.text(self.path)))

    # -- the cluster's own znode --

    def _barrier(self, connection: Connection) -> asyncio.Future[Reply]:
        return connection.send(Op.MULTI, wire.multi([(Op.CHECK, wire.versioned(self.path, ANY_VERSION))]))

    async def _make(self, connection: Connection) -> None:
        """The cluster's znode, for its user alone; those above it for everybody to make others below."""
        own = self._own()
        above = [_ANYBODY] if own is None else [own, Grant(wire.READ | wire.CREATE, "world", "anyone")]
        names = self.path.strip("/").split("/")
        for depth in range(1, len(names) + 1):
            path = "/" + "/".join(names[:depth])
            last = depth == len(names)
            body = wire.create(path, _DATA if last else b"", [own or _ANYBODY] if last else above)
            answer = await connection.send(Op.CREATE, body)
            if answer.code != Code.NODE_EXISTS and (last or answer.code != Code.NO_AUTH):  # above: not ours to make
                _checked(answer)
        _made(await self._barrier(connection))  # whoever else has made it: this server knows it now

    def _own(self) -> Grant | None:
        if self._login is None:
            return None
        user, password = self._login.user, self._login.password()
        digest = hashlib.sha1(f"{user}:{password}".encode(), usedforsecurity=False).digest()
        return Grant(wire.ALL, "digest", f"{user}:{base64.b64encode(digest).decode()}")


def _grants(answer: Reply) -> list[Grant]:
    """The ACL of the cluster's znode, which is each key's, so that an operator decides it in one place."""
    found = _checked(answer).body.grants()
    if any(each.scheme == "digest" and each.id.endswith(":x") for each in found):
        raise Refused(Code.REDACTED)
    return found


def _checked(answer: Reply) -> Reply:
    """Raises Refused."""
    if answer.code != Code.OK:
        raise Refused(answer.code)
    return answer


def _stat(answer: Reply) -> Stat | None:
    return None if answer.code == Code.NO_NODE else _checked(answer).body.stat()


def _versioned(key: str, answer: Reply) -> Versioned | None:
    if answer.code == Code.NO_NODE:
        return None
    node: Node = _checked(answer).body.node()
    return Versioned(key, node.data, node.stat.modified)


def _outcome(answer: Reply) -> list[Part]:
    """A transaction's; `stat` is missing where it was not made. Raises Refused unless looking again is of use."""
    parts = wire.parts(_checked(answer).body)
    for part in parts:
        if part.code != Code.OK and part.code not in _LOOK_AGAIN:
            raise Refused(part.code)
    return parts


def _made(answer: Reply) -> None:
    """Of a barrier: a check that fails because there is nothing has gone through the majority all the same."""
    _outcome(answer)
