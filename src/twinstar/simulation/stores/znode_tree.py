"""ZooKeeper's tree of nodes and what a transaction makes of it, as far as our client asks.

A transaction is all of its parts or none, and it takes a number either way: one that fails has gone through the
majority as well. Each part is looked at as the parts before it would leave the tree.

Source: the server's `PrepRequestProcessor` and `DataTree`, release 3.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from twinstar.store.zookeeper.wire import ANY_VERSION, Code, Grant, Op

_NOT_EMPTY = -111


class Event(IntEnum):
    """What a watch that stays is told of a node."""

    CREATED = 1
    DELETED = 2
    CHANGED = 3


@dataclass(frozen=True, slots=True)
class Znode:
    """`created`, `modified`: by which transaction; `below`: which one last created or deleted a node directly below.
    `version` counts settings, `children` creations and deletions below.
    """

    data: bytes
    acl: tuple[Grant, ...]
    created: int
    modified: int
    below: int
    version: int = 0
    children: int = 0


Tree = dict[str, Znode]


@dataclass(frozen=True, slots=True)
class Part:
    """One of a transaction. `version`: which the node must have (`ANY_VERSION`: whichever)."""

    op: Op
    path: str
    data: bytes = b""
    acl: tuple[Grant, ...] = ()
    version: int = ANY_VERSION


@dataclass(frozen=True, slots=True)
class Made:
    """A transaction that a majority has: what each node that it touched is from then on (None: gone), and what is
    told of it.
    """

    zxid: int
    nodes: dict[str, Znode | None]
    events: tuple[tuple[Event, str], ...]
    codes: tuple[int, ...]
    """Of each part; none but zeros, or nothing was changed."""


class _Refused(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def new_tree() -> Tree:
    return {"/": Znode(b"", (), 0, 0, 0)}


def parent_of(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def children_of(tree: Tree, path: str) -> list[str]:
    """Their names, in an order that means nothing."""
    return [each.rpartition("/")[2] for each in tree if each != "/" and parent_of(each) == path]


def carried_out(tree: Tree, parts: Sequence[Part], zxid: int) -> Made:
    """What the transaction comes to; the tree is left as it is."""
    draft = _Draft(tree, zxid)
    for number, part in enumerate(parts):
        try:
            draft.carry_out(part)
        except _Refused as refused:
            untried = [int(Code.NOT_TRIED)] * (len(parts) - number - 1)
            return Made(zxid, {}, (), (*[int(Code.OK)] * number, refused.code, *untried))
    return Made(zxid, draft.nodes, tuple(draft.events), (int(Code.OK),) * len(parts))


class _Draft:
    def __init__(self, tree: Tree, zxid: int) -> None:
        self._tree, self._zxid = tree, zxid
        self.nodes: dict[str, Znode | None] = {}
        self.events: list[tuple[Event, str]] = []

    def carry_out(self, part: Part) -> None:
        """Raises _Refused."""
        match part.op:
            case Op.CREATE:
                self._create(part)
            case Op.DELETE:
                self._delete(part)
            case Op.SET_DATA:
                node = self._at(part)
                changed = replace(node, data=part.data, modified=self._zxid, version=node.version + 1)
                self._put(Event.CHANGED, part.path, changed)
            case _:
                self._at(part)

    def _create(self, part: Part) -> None:
        if not part.acl:
            raise _Refused(Code.INVALID_ACL)
        if self._found(parent_of(part.path)) is None:
            raise _Refused(Code.NO_NODE)
        if self._found(part.path) is not None:
            raise _Refused(Code.NODE_EXISTS)
        self._count(parent_of(part.path))
        self._put(Event.CREATED, part.path, Znode(part.data, part.acl, self._zxid, self._zxid, self._zxid))

    def _delete(self, part: Part) -> None:
        self._at(part)
        standing = {**self._tree, **self.nodes}
        if any(
            node is not None and path != part.path and parent_of(path) == part.path for path, node in standing.items()
        ):
            raise _Refused(_NOT_EMPTY)
        self._count(parent_of(part.path))
        self._put(Event.DELETED, part.path, None)

    def _found(self, path: str) -> Znode | None:
        return self.nodes[path] if path in self.nodes else self._tree.get(path)

    def _at(self, part: Part) -> Znode:
        node = self._found(part.path)
        if node is None:
            raise _Refused(Code.NO_NODE)
        if part.version not in (ANY_VERSION, node.version):
            raise _Refused(Code.BAD_VERSION)
        return node

    def _count(self, parent: str) -> None:
        node = self._found(parent)
        assert node is not None
        self.nodes[parent] = replace(node, below=self._zxid, children=node.children + 1)

    def _put(self, event: Event, path: str, node: Znode | None) -> None:
        self.nodes[path] = node
        self.events.append((event, path))
