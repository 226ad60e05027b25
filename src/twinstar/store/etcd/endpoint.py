"""One member of etcd: its API, its logins, and what a failure there means: `NotDone` or `Doubtful`."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from twinstar.model.errors import TwinstarError, UsageError
from twinstar.ports.network import Address, Network
from twinstar.store.etcd.messages import Json, Trouble, trouble_in, trouble_of
from twinstar.store.http import Answer, Headers, HttpConnection, Lines, Request
from twinstar.store.race import Attempt, Doubtful, Failed, NotDone
from twinstar.store.server import HttpServer

_API = "/v3"
# etcd then ends a stream whose server has lost the majority, instead of leaving it open and silent.
_REQUIRE_LEADER = ("Grpc-Metadata-hasleader", "true")


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


class Endpoint:
    def __init__(self, url: str, session: Session) -> None:
        """Raises UsageError when the URL is none."""
        self.url = url
        address, secure = _parse(url)
        self._server = HttpServer(url, address, session.network, lambda: session.tls if secure else None)
        self._session = session

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
        connection = await self._server.dial()
        try:
            status = await connection.begin(_request("/watch", request, [_REQUIRE_LEADER, *_authorized(token)]))
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
        await self._server.close()

    async def _exchange(self, path: str, request: Json, token: str | None, attempt: Attempt) -> Answer:
        return await self._server.ask(_request(path, request, _authorized(token)), attempt)

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
        self._lines = Lines(connection)
        self._url = url

    async def begun(self) -> None:
        """Returns when etcd has confirmed the watch. Raises Doubtful."""
        if not (await self.next()).get("created"):
            raise Doubtful(f"{self._url}: the watch was not confirmed")

    async def next(self) -> Json:
        """The next message; may be cancelled and called again. Raises Doubtful when the stream has ended."""
        try:
            message = _json_object(await self._lines.next())
        except (OSError, ValueError) as error:
            raise Doubtful(f"{self._url}: {error}") from error
        result = message.get("result")
        if not isinstance(result, dict):
            raise Doubtful(f"{self._url}: {trouble_of(message.get('error')).message}")
        if result.get("canceled"):  # its start was compacted, its leader lost, its right withdrawn: begin again
            raise Doubtful(f"{self._url}: the watch was ended: {result.get('cancel_reason', 'compacted')}")
        return result

    async def close(self) -> None:
        await self._lines.close()


def _parse(url: str) -> tuple[Address, bool]:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/"):
            return Address(parts.hostname, parts.port or 2379), parts.scheme == "https"
    except ValueError:
        pass
    raise UsageError(f"{url!r} is no etcd endpoint: write http://host:port or https://host:port.")


def _request(path: str, request: Json, headers: Headers) -> Request:
    return Request("POST", _API + path, headers, json.dumps(request, separators=(",", ":")).encode())


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
