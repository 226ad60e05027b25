"""One member of etcd: its connections, and what a failure there means for the request.

A failed request is either `NotDone` (nothing was sent, or etcd itself refused it) or `Doubtful`. That difference is
what makes an unknown outcome honest, so it is drawn here, where the bytes leave.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from twinstar.model.errors import TwinstarError, UsageError
from twinstar.ports.network import Address, Network
from twinstar.store.etcd.http import Answer, Broken, Headers, HttpConnection
from twinstar.store.etcd.messages import Json, Trouble, trouble_in, trouble_of

_API = "/v3"
# etcd then ends a stream whose server has lost the majority, instead of leaving it open and silent.
_REQUIRE_LEADER = ("Grpc-Metadata-hasleader", "true")
_IDLE_KEPT = 4


class Failed(Exception):
    """No answer, or etcd's word that something went wrong."""


class NotDone(Failed):
    """The request has not been carried out and will not be."""


class Doubtful(Failed):
    """The request may have been carried out, may still be, or may never be."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user of etcd. The password is asked for when it is needed and kept nowhere."""

    user: str
    password: Callable[[], str]


class Session:
    """What all endpoints share: whether to use TLS, who we are, and the token by which etcd knows that.

    etcd's members agree on tokens, so one does for all; a member that has restarted has forgotten it and is asked for a
    new one, which the others learn as well.
    """

    def __init__(self, network: Network, tls: ssl.SSLContext | None = None, login: Login | None = None) -> None:
        self.network = network
        self.tls = tls
        self.login = login
        self.token: str | None = None


class Attempt:
    """Whether a request has left this machine: asked by whoever gives up waiting for its answer."""

    sent = False


class Endpoint:
    def __init__(self, url: str, session: Session) -> None:
        """Raises UsageError when the URL is none."""
        self.url = url
        self._address, self._secure = _parse(url)
        self._session = session
        self._idle: list[HttpConnection] = []

    async def ask(self, path: str, request: Json, attempt: Attempt | None = None) -> Json:
        """One request and its answer. Raises NotDone or Doubtful; a time-out is the caller's."""
        attempt = attempt or Attempt()
        token = await self._token()
        answer = await self._exchange(path, request, token, attempt)
        if token is not None and answer.status != 200 and _trouble(answer).unauthenticated:
            attempt.sent = False  # refused before it was looked at
            answer = await self._exchange(path, request, await self._token(instead_of=token), attempt)
        if answer.status != 200:
            raise self._failure(answer)
        try:
            return _json_object(answer.body)
        except ValueError:
            raise Doubtful(f"{self.url} answers with something that is no etcd's: correct the endpoint.") from None

    async def watch(self, request: Json) -> Stream:
        """A stream of changes, begun. Raises NotDone or Doubtful."""
        token = await self._token()
        connection = await self._dial()
        try:
            status = await connection.begin(f"{_API}/watch", _body(request), [_REQUIRE_LEADER, *_authorized(token)])
            stream = Stream(connection, self.url)
            if status != 200:
                answer = Answer(status, await connection.part())
                if _trouble(answer).unauthenticated and self._session.token == token:
                    self._session.token = None  # whoever tries next asks for a new one
                raise self._failure(answer)
            await stream.begun()
        except OSError as error:
            connection.abort()
            raise Doubtful(f"{self.url}: {error}") from error
        except BaseException:
            connection.abort()
            raise
        return stream

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    async def _exchange(self, path: str, request: Json, token: str | None, attempt: Attempt) -> Answer:
        connection = await self._connection()
        attempt.sent = True
        try:
            answer = await connection.post(_API + path, _body(request), _authorized(token))
        except OSError as error:
            connection.abort()
            raise Doubtful(f"{self.url}: {error}") from error
        except BaseException:  # a cancellation: what comes later over this connection belongs to no one
            connection.abort()
            raise
        if connection.idle and len(self._idle) < _IDLE_KEPT:
            self._idle.append(connection)
        else:
            connection.abort()
        return answer

    async def _connection(self) -> HttpConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.idle:
                return connection
            connection.abort()
        return await self._dial()

    async def _dial(self) -> HttpConnection:
        try:
            streams = await self._session.network.dial(self._address, self._session.tls if self._secure else None)
        except OSError as error:
            raise NotDone(f"{self.url}: {error.strerror or error}") from error
        return HttpConnection(*streams, host=str(self._address))

    async def _token(self, instead_of: str | None = None) -> str | None:
        """The token to show; a new one if there is none or it is the one that has just been refused."""
        session = self._session
        if session.login and session.token in (None, instead_of):
            session.token = await self._authenticate(session.login)
        return session.token

    async def _authenticate(self, login: Login) -> str:
        """A new token. Fails as NotDone whatever happens: the request that needs the token has not been sent."""
        try:
            credentials = {"name": login.user, "password": login.password()}
            answer = await self._exchange("/auth/authenticate", credentials, None, Attempt())
            if answer.status == 200:
                return str(_json_object(answer.body)["token"])
            raise NotDone(f"{self.url} does not log {login.user} in: {_trouble(answer).message}")
        except (Doubtful, TwinstarError) as error:
            raise NotDone(str(error)) from error
        except (ValueError, KeyError):
            raise NotDone(f"{self.url} answers with something that is no etcd's: correct the endpoint.") from None

    def _failure(self, answer: Answer) -> Failed:
        trouble = _trouble(answer)
        return (NotDone if trouble.refused else Doubtful)(f"{self.url}: {trouble.message}")


class Stream:
    """The changes that one endpoint reports, message by message."""

    def __init__(self, connection: HttpConnection, url: str) -> None:
        self._connection = connection
        self._url = url
        self._buffer = bytearray()

    async def begun(self) -> None:
        """Returns when etcd has confirmed the watch. Raises Doubtful."""
        if not (await self.next()).get("created"):
            raise Doubtful(f"{self._url}: the watch was not confirmed")

    async def next(self) -> Json:
        """The next message; may be cancelled and called again. Raises Doubtful when the stream has ended."""
        try:
            while (end := self._buffer.find(b"\n")) < 0:
                part = await self._connection.part()
                if not part:
                    raise Broken("the stream ended")
                self._buffer += part
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            message = _json_object(line)
        except (OSError, ValueError) as error:
            raise Doubtful(f"{self._url}: {error}") from error
        result = message.get("result")
        if not isinstance(result, dict):
            raise Doubtful(f"{self._url}: {trouble_of(message.get('error')).message}")
        if result.get("canceled"):  # its start was compacted, its leader lost, its right withdrawn: begin again
            raise Doubtful(f"{self._url}: the watch was ended: {result.get('cancel_reason', 'compacted')}")
        return result

    async def close(self) -> None:
        await self._connection.close()


def _parse(url: str) -> tuple[Address, bool]:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/"):
            return Address(parts.hostname, parts.port or 2379), parts.scheme == "https"
    except ValueError:
        pass
    raise UsageError(f"{url!r} is no etcd endpoint: write http://host:port or https://host:port.")


def _body(request: Json) -> bytes:
    return json.dumps(request, separators=(",", ":")).encode()


def _authorized(token: str | None) -> Headers:
    return [] if token is None else [("Authorization", token)]


def _json_object(body: bytes) -> Json:
    """Raises ValueError."""
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _trouble(answer: Answer) -> Trouble:
    return trouble_in(answer.status, answer.body)
