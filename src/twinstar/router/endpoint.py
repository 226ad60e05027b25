"""Which server a session of an endpoint goes to, and how many each has.

`write` has one answer. `any` takes the open node with the fewest sessions of this router, in turn where several have as
few. `read` takes the standby with the fewest sessions of this router, and the leader when no standby
can be had. Encrypted sessions of one client host on `read` stay together on one standby while any of them is there: a
cancel request inside TLS cannot be read, so it must arrive where that host's sessions are. On `write` they are together
anyway. On `any` they are spread all the same: a client that is one machine must not be one node's load; what is lost is
that a cancel request inside TLS arrives only by luck.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection

from twinstar.router.base import Role
from twinstar.router.routes import Route
from twinstar.router.session import Session


class Endpoint:
    def __init__(self, role: Role) -> None:
        self.role = role
        self.sessions: dict[Session, None] = {}
        """The oldest first."""
        self.load: Counter[str] = Counter()
        """Joined sessions by member."""
        self._turn = 0
        self._encrypted: defaultdict[str, dict[Session, None]] = defaultdict(dict)

    @property
    def held(self) -> int:
        """Clients without a server."""
        return len(self.sessions) - self.load.total()

    def choose(
        self, route: Route, avoided: Collection[str], session: Session, opening: Counter[str], *, encrypted: bool
    ) -> str | None:
        """The member for a session, None when there is none but those to be avoided. `opening`: how many are on their
        way to each."""
        usable = [member for member in self._wanted(route) if member not in avoided]
        if not usable:
            return route.write if route.write not in avoided else None
        if self.role is Role.ANY:
            return self._in_turn(usable, opening)
        if encrypted and (home := self._home(session)) in usable:
            return home
        return min(usable, key=lambda member: self.load[member])

    def _in_turn(self, usable: list[str], opening: Counter[str]) -> str:
        self._turn += 1
        fewest = min(self.load[member] + opening[member] for member in usable)
        equal = [member for member in usable if self.load[member] + opening[member] == fewest]
        return equal[self._turn % len(equal)]

    def joined(self, session: Session) -> None:
        assert session.target is not None
        self.load[session.target.member] += 1
        if session.encrypted:
            self._encrypted[session.client_host][session] = None

    def over(self, session: Session) -> None:
        self.sessions.pop(session, None)
        if session.joined and session.target is not None:
            self.load[session.target.member] -= 1
        if session.encrypted:
            self._encrypted[session.client_host].pop(session, None)
            if not self._encrypted[session.client_host]:
                del self._encrypted[session.client_host]

    def _wanted(self, route: Route) -> tuple[str, ...]:
        if self.role is Role.READ:
            return route.read
        if self.role is Role.ANY:
            return route.any
        return (route.write,) if route.write is not None else ()

    def _home(self, session: Session) -> str | None:
        other = next(iter(self._encrypted.get(session.client_host, ())), None)
        return other.target.member if other is not None and other.target is not None else None
