"""A client and, once it is let through, its server: what is known of both, and how it ends.

A session has one of three states. *Opening*: the client has been told nothing by any server, so a server that fails or
is replaced can still be exchanged for another without the client noticing (`opening.py`). *Joined*: bytes go both
ways as they come. *Over*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from twinstar.model.address import Address
from twinstar.router.base import Role
from twinstar.router.messages import Conversation, error_response
from twinstar.router.routes import Route
from twinstar.router.stream import Stream

ADMIN_SHUTDOWN = "57P01"


@dataclass(frozen=True, slots=True)
class Target:
    """The member that a session is sent to, in which epoch."""

    member: str
    address: Address
    epoch: int
    leads: bool = False
    """The epoch, as far as is known."""


class Owner(Protocol):
    """Is told, once each, how a session gets on."""

    def session_began(self, session: Session) -> None: ...
    def session_joined(self, session: Session) -> None: ...
    def session_has_key(self, session: Session, key: bytes) -> None: ...
    def session_over(self, session: Session) -> None: ...


class Session:
    __slots__ = ("_owner", "client", "conversation", "joined", "role", "server", "target")

    def __init__(self, role: Role, owner: Owner) -> None:
        self._owner = owner
        self.role = role
        self.client = Stream(self._client_made, self._side_lost, passes_end=True)
        self.server: Stream | None = None
        self.target: Target | None = None
        self.conversation: Conversation | None = None
        """None as well for a session that is encrypted from end to end: then nothing is known of what is said."""
        self.joined = False

    @property
    def encrypted(self) -> bool:
        return self.joined and self.conversation is None

    @property
    def client_host(self) -> str:
        peer = self.client.transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    def join(self, server: Stream, *, encrypted: bool) -> None:
        """Lets the client through."""
        conversation = None if encrypted else Conversation(self._has_key, self._on_standby)
        self.conversation = conversation
        self.joined = True
        self._owner.session_joined(self)
        server.lost = self._side_lost
        server.join(self.client, conversation.from_server if conversation else None)
        self.client.join(server, conversation.from_client if conversation else None)

    def follow(self, route: Route) -> bool:
        """Ends, or looks for another server, if this session's is not in `route` any more. True if it ended."""
        if self.target is None:
            return False
        reason = self._over(self.target, route)
        if reason is None:
            return False
        if not self.joined:
            self.leave_server()
            return False
        self.end(f"the router has ended this session because {reason}")
        return True

    def _over(self, target: Target, route: Route) -> str | None:
        """Why the session cannot go on where it is; None: it can."""
        if self.role is Role.READ and target.member in route.left_out:
            return f"{target.member} is too far behind"
        if target.member in route.ended:
            return f"{target.member} takes no clients: {route.ended[target.member]}"
        return f"epoch {route.epoch} has begun" if target.epoch < route.epoch else None

    def leave_server(self) -> None:
        """Before being joined: what waits for the server sees its end."""
        if self.server is not None:
            self.server.abort()
        self.server = None
        self.target = None

    def end(self, sentence: str) -> None:
        """Ends both sides at once.

        A client that waits for nothing is told why. One that does must not take such a message for an answer: what
        became of its statement is unknown, and a closed connection says just that.
        """
        unsent = self.client.transport.get_write_buffer_size()
        if self.conversation is not None and self.conversation.quiet and not unsent:
            self.client.transport.write(error_response(ADMIN_SHUTDOWN, sentence, "Connect again."))
        if self.server is not None:
            self.server.abort()
        self.client.abort()

    def _client_made(self) -> None:
        self._owner.session_began(self)

    def _side_lost(self) -> None:
        """A joined session is over when both sides are: what a client said last may still be on its way to a server,
        and must not get there once the epoch is over.
        """
        if self.joined and self.server is not None and not (self.client.ended and self.server.ended):
            return
        if self.server is not None:
            self.server.abort()
        self._owner.session_over(self)

    def _on_standby(self) -> None:
        """A leader's database that was started again is a standby until it begins an epoch, and shows commits that
        nobody has confirmed. That its epoch is over is known later than it accepts connections.
        """
        if self.target is not None and self.target.leads:
            self.end("the router has ended this session because the database is a standby now")

    def _has_key(self, key: bytes) -> None:
        self._owner.session_has_key(self, key)
