"""One server of the ensemble: the connection to it, and what a failure there means for the request."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twinstar.model.errors import TwinstarError, UsageError
from twinstar.ports.clock import Clock
from twinstar.ports.network import Address, Network
from twinstar.store.endpoints import Patience
from twinstar.store.race import Attempt, Doubtful, NotDone, T
from twinstar.store.zookeeper import wire
from twinstar.store.zookeeper.connection import Broken, Connection
from twinstar.store.zookeeper.wire import Code, Malformed, Op

_REFUSALS = {
    Code.UNIMPLEMENTED: "does not know this request: ZooKeeper 3.6 is the oldest that will do",
    Code.BAD_ARGUMENTS: "does not take this request",
    Code.REDACTED: "does not show the ACL of the cluster's znode: grant its user everything (cdrwa)",
    Code.NO_AUTH: "does not allow it: see the user and password, and the ACL of the cluster's znode",
    Code.SESSION_EXPIRED: "has ended the session",
    Code.INVALID_ACL: "does not take the ACL: name a user, or give the cluster's znode one that holds for all nodes",
    Code.AUTH_FAILED: "does not log us in: see the user and password",
    Code.SESSION_MOVED: "has given the session away",
    Code.QUOTA: "says that the quota is used up: raise it (setquota)",
    Code.THROTTLED: "has too much to do",
}


class Refused(Exception):
    """The server's word that the request was not carried out, or (`definite` False) that something went wrong."""

    def __init__(self, code: int) -> None:
        found = next((why for known, why in _REFUSALS.items() if known == code), None)
        super().__init__(found or f"reports error {code}")
        self.definite = found is not None


@dataclass(frozen=True, slots=True)
class Login:
    """A user of scheme `digest`. The password is asked for when it is needed and kept nowhere."""

    user: str
    password: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Access:
    """What all servers share: the network, and who we are."""

    network: Network
    clock: Clock
    tls: ssl.SSLContext | None
    login: Login | None
    patience: Patience

    @property
    def session_ms(self) -> int:
        """Longer than the silence after which a watch asks, so that this keeps the session alive."""
        return round(3 * self.patience.silence_ms)


class Server:
    def __init__(self, host: str, access: Access) -> None:
        """Raises UsageError when `host` is not ``host:port``."""
        self.url = host
        self._address = _parse(host)
        self._access = access
        self._connection: Connection | None = None
        self._dialing = asyncio.Lock()

    async def ask(
        self, request: Callable[[Connection, Attempt], Coroutine[Any, Any, T]], attempt: Attempt | None = None
    ) -> T:
        """Carries a request out. Raises NotDone or Doubtful; a time-out is the caller's."""
        noted = attempt or Attempt()
        connection = await self.connection()
        return await self.over(connection, lambda: request(connection, noted), noted)

    async def over(
        self, connection: Connection, request: Callable[[], Coroutine[Any, Any, T]], attempt: Attempt | None = None
    ) -> T:
        """The same over a connection that one has already."""
        try:
            return await request()
        except Refused as error:
            raise (NotDone if error.definite else Doubtful)(f"{self.url} {error}") from error
        except Broken as error:
            raise (Doubtful if attempt and attempt.sent else NotDone)(f"{self.url}: {error}") from error
        except TwinstarError as error:  # a password that cannot be read
            raise NotDone(str(error)) from error
        except Malformed as error:
            connection.abort(str(error))
            raise Doubtful(f"{self.url}: {error}") from error

    async def connection(self) -> Connection:
        """The one connection; a new one if there is none or it has been silent for too long. Raises NotDone."""
        async with self._dialing:
            connection = self._connection
            if connection is not None:
                if connection.usable and connection.silent_ms < self._access.patience.deadline_ms:
                    return connection
                connection.abort("it did not answer any more")
            self._connection = await self._dial()
            return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _dial(self) -> Connection:
        access = self._access
        try:
            streams = await access.network.dial(self._address, access.tls)
        except OSError as error:
            raise NotDone(f"{self.url}: {error.strerror or error}") from error
        connection = Connection(*streams, access.clock)
        try:
            await connection.begin(access.session_ms)
            if access.login is not None:
                await self._log_in(connection, access.login)
        except BaseException as error:
            connection.abort("given up")
            if isinstance(error, Broken):
                raise NotDone(f"{self.url}: {error}") from error
            raise
        return connection

    async def _log_in(self, connection: Connection, login: Login) -> None:
        try:
            answer = await connection.send(Op.AUTH, wire.login(login.user, login.password()))
        except TwinstarError as error:
            raise NotDone(str(error)) from error
        if answer.code != Code.OK:
            raise NotDone(f"{self.url} {Refused(answer.code)}")


def _parse(host: str) -> Address:
    name, _, port = host.rpartition(":")
    name = name.removeprefix("[").removesuffix("]")
    if name and port.isdecimal() and 0 < int(port) < 65_536:
        return Address(name, int(port))
    raise UsageError(f"{host!r} is no ZooKeeper server: write host:port, such as 127.0.0.1:2181.")
