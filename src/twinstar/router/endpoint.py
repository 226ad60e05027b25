"""Which server a session of an endpoint goes to, and how many each has.

`write` has one answer. `read` takes the standby with the fewest sessions of this router, and the leader when no standby
can be had. Encrypted sessions of one client host on `read` stay together on one standby while any of them is there: a
cancel request inside TLS cannot be read, so it must arrive where that host's sessions are. On `write` they are together
anyway.
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
        self._encrypted: defaultdict[str, dict[Session, None]] = defaultdict(dict)

    @property
    def held(self) -> int:
        """Clients without a server."""
        return len(self.sessions) - self.load.total()

    def choose(self, route: Route, avoided: Collection[str], session: Session, *, encrypted: bool) -> str | None:
        """The member for a session, None when there is none but those to be avoided."""
        usable = [member for member in self._wanted(route) if member not in avoided]
        if not usable:
            return route.write if route.write not in avoided else None
        if encrypted and (home := self._home(session)) in usable:
            return home
        return min(usable, key=lambda member: self.load[member])

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
        return (route.write,) if route.write is not None else ()

    def _home(self, session: Session) -> str | None:
        other = next(iter(self._encrypted.get(session.client_host, ())), None)
        return other.target.member if other is not None and other.target is not None else None
