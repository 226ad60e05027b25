"""Requests to the API server, and what its answers mean for a change.

Only three answers say that a change was *not* made: 409, a 404 that names the object, and what is refused before it is
looked at. A 504, a 500, silence and a broken connection say nothing: the change may be made later, since the API server
has passed it on to its etcd. No change is sent twice; whoever wants to know settles it (`settle`).

A listing and a read without a `resourceVersion` are linearizable; one with ``resourceVersion=0`` would be answered from
a cache, also while etcd is away, so none is ever asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from twinstar.model.errors import StoreUnavailable, UsageError
from twinstar.ports.clock import Clock
from twinstar.ports.network import Network
from twinstar.store.base import ABSENT
from twinstar.store.http import Answer, HttpConnection, Lines, Request
from twinstar.store.kubernetes.access import Access
from twinstar.store.kubernetes.records import PLURAL, Json, Listing, Records, Strange
from twinstar.store.race import Attempt, Doubtful, Failed, NotDone
from twinstar.store.server import HttpServer

_MANIFEST = "apply what `twinstar store manifest` prints"
_AT_THE_SERVER = 0.9
"""The part of a deadline after which the server is asked to give up: its reason is worth more than our impatience."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the API server, in milliseconds.

    `deadline_ms`: for an answer; then the outcome is unknown. `silence_ms`: for a message from a watch before a listing
    shows whether there should have been one. `overdue_ms`: for a watch to tell what an answer has told. `stream_ms`:
    after which the server ends a watch, in good order; then the next one shows its credentials anew. Whole seconds.
    """

    deadline_ms: float = 2_000
    silence_ms: float = 10_000
    overdue_ms: float = 500
    stream_ms: float = 600_000


DEFAULT_PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class Said:
    """An answer of the API server. `missing`: it is a 404 that names the object asked for."""

    status: int
    document: Json
    missing: bool = False


class Api:
    def __init__(self, access: Access, records: Records, clock: Clock, network: Network, patience: Patience) -> None:
        self.url = access.url
        self.records = records
        self.clock = clock
        self.patience = patience
        self.seen = ABSENT
        """The newest revision of an object in any answer: a watch on all of them must reach it soon."""
        self._access = access
        self._server = HttpServer(access.url, access.address, network, access.tls)

    async def change(self, method: str, path: str, document: Json | None) -> Said:
        """Asks once for something to be written; 200, 201, 409 and the object's own 404 are answers.

        Raises Failed for everything else, a time-out included: nobody knows what has become of it.
        """
        query = f"?timeout={_AT_THE_SERVER * self.patience.deadline_ms:.0f}ms"
        said = await self._ask(method, path + query, document)
        if said.status in _ANSWERS or said.missing:
            return said
        raise self._failure(said)

    async def get(self, key: str) -> Json | None:
        """The object of a key. Raises StoreUnavailable."""
        said = await self._look(self.records.path(key))
        return None if said.missing else said.document

    async def list(self) -> Listing:
        """All objects of the cluster. Raises StoreUnavailable."""
        said = await self._look(f"{self.records.collection}?{self.records.selection}")
        try:
            return self.records.listing(said.document)
        except Strange as error:
            raise self.strange(error) from None

    async def watch(self, revision: int) -> Lines:
        """The changes after a revision, from the beginning of the stream. Raises Failed."""
        query = f"{self.records.selection}&watch=1&allowWatchBookmarks=true"
        query += f"&resourceVersion={revision}&timeoutSeconds={self.patience.stream_ms / 1000:.0f}"
        request = self._request("GET", f"{self.records.collection}?{query}", None)
        try:
            async with self.clock.timeout_ms(self.patience.deadline_ms):
                return await self._begun(await self._server.dial(), request)
        except TimeoutError:
            raise Doubtful(f"{self.url}: no watch within {self.patience.deadline_ms:g} ms") from None

    async def close(self) -> None:
        await self._server.close()

    def strange(self, error: Strange) -> StoreUnavailable:
        return StoreUnavailable(
            f"The API server {self.url} has what is not Twinstar's ({error}): remove it, or use another namespace."
        )

    async def _begun(self, connection: HttpConnection, request: Request) -> Lines:
        try:
            status = await connection.begin(request)
            if status != 200:
                raise self._failure(_said(Answer(status, await connection.part()), None))
        except OSError as error:
            connection.abort()
            raise Doubtful(f"{self.url}: {error}") from error
        except BaseException:
            connection.abort()
            raise
        return Lines(connection)

    async def _look(self, path: str) -> Said:
        try:
            said = await self._ask("GET", path, None)
            if said.status == 200 or said.missing:
                return said
            raise self._failure(said)
        except Failed as error:
            raise StoreUnavailable(f"The Kubernetes API does not answer as it should: {error}.") from error

    async def _ask(self, method: str, path: str, document: Json | None) -> Said:
        attempt = Attempt()
        try:
            async with self.clock.timeout_ms(self.patience.deadline_ms):
                request = self._request(method, path, document)
                answer = await self._server.ask(request, attempt)
        except TimeoutError:
            kind = Doubtful if attempt.sent else NotDone
            raise kind(f"{self.url}: no answer within {self.patience.deadline_ms:g} ms") from None
        name = path.partition("?")[0].rpartition("/")[2]
        said = _said(answer, name)
        if said.status not in _ANSWERS and not said.missing:
            self._server.leave()  # its etcd is away, or it is not ready: behind the address there may be others
        return said

    def _request(self, method: str, path: str, document: Json | None) -> Request:
        try:
            headers = [("Accept", "application/json"), *self._access.headers()]
        except UsageError as error:  # a token that has gone
            raise NotDone(str(error).removesuffix(".")) from error
        return Request(method, path, headers, None if document is None else json.dumps(document).encode())

    def _failure(self, said: Said) -> Failed:
        message = str(said.document.get("message") or f"HTTP status {said.status}").rstrip(".")
        remedy = _REMEDIES.get(said.status)
        text = f"{self.url} says {said.status}, {message}" + (f" ({remedy})" if remedy else "")
        return (NotDone if said.status in _REFUSALS else Doubtful)(text)


_ANSWERS = frozenset({200, 201, 409})
_REFUSALS = frozenset({400, 401, 403, 404, 405, 410, 413, 415, 422, 429})
_REMEDIES = {
    401: "renew the token or certificate of the kubeconfig or service account",
    403: _MANIFEST,
    404: _MANIFEST,
    422: _MANIFEST + ", of this version",
}


def _said(answer: Answer, name: str | None) -> Said:
    """The server's own status object, or its plain text in one."""
    try:
        document: Any = json.loads(answer.body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {"message": answer.body[:200].decode(errors="replace").strip()}
        if answer.status == 200:
            raise Doubtful(f"no JSON in the answer: {document['message']!r}")
    details = document.get("details") or {}
    missing = answer.status == 404 and details.get("kind") == PLURAL and details.get("name") == name
    return Said(answer.status, document, missing)
