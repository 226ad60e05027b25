"""The JSON shapes of etcd's gateway: what is asked, and what comes back, as values of ours. Pure.

Keys and values are base64, 64-bit numbers are strings, and fields that are zero or empty are left out.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from twinstar.store.base import ABSENT, Applied, Conflict, Versioned

Json = dict[str, Any]

# gRPC status codes with which etcd says that it has not carried out, and will not carry out, what was asked.
_REFUSALS = frozenset({3, 5, 7, 8, 9, 12, 16})
_UNAUTHENTICATED = 16
_OLD_AUTHENTICATION = "revision of auth store is old"


@dataclass(frozen=True, slots=True)
class Trouble:
    """etcd's own word that something went wrong."""

    message: str
    refused: bool
    """Certainly not carried out. Otherwise (no leader, time-out, shutting down …) nobody knows."""
    unauthenticated: bool = False
    """A new token helps."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change out of a watch; `value` is None for a deletion."""

    key: str
    value: Versioned | None
    revision: int


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything under a prefix, as of the store's `revision`, in the order of the keys."""

    values: list[Versioned]
    revision: int


class Keys:
    """Keys of one cluster, to and from what etcd calls them."""

    def __init__(self, root: str) -> None:
        self._root = root.encode()

    def outside(self, key: str) -> str:
        return base64.b64encode(self._root + key.encode()).decode()

    def end_of(self, prefix: str) -> str:
        """The first key after all that begin with the prefix."""
        whole = self._root + prefix.encode()  # UTF-8 has no byte 0xff, so the last one can always grow
        return base64.b64encode(whole[:-1] + bytes([whole[-1] + 1])).decode()

    def inside(self, encoded: str) -> str:
        return base64.b64decode(encoded).removeprefix(self._root).decode()

    def versioned(self, kv: Json) -> Versioned:
        return Versioned(self.inside(kv["key"]), base64.b64decode(kv.get("value", "")), int(kv["mod_revision"]))

    # -- requests --

    def range_one(self, key: str) -> Json:
        return {"key": self.outside(key)}

    def range_all(self, prefix: str) -> Json:
        return {"key": self.outside(prefix), "range_end": self.end_of(prefix)}

    def range_newest(self, prefix: str) -> Json:
        """Only the key that was changed last, without its value."""
        newest = {"limit": "1", "sort_order": "DESCEND", "sort_target": "MOD", "keys_only": True}
        return {**self.range_all(prefix), **newest}

    def compare_and_set(self, key: str, value: bytes, expected_revision: int) -> Json:
        outside = self.outside(key)
        if expected_revision == ABSENT:
            compare = {"key": outside, "target": "CREATE", "create_revision": "0"}
        else:
            compare = {"key": outside, "target": "MOD", "mod_revision": str(expected_revision)}
        put = {"key": outside, "value": base64.b64encode(value).decode()}
        return {
            "compare": [compare],
            "success": [{"request_put": put}],
            "failure": [{"request_range": {"key": outside}}],
        }

    def watch(self, prefix: str, after_revision: int) -> Json:
        start = {**self.range_all(prefix), "start_revision": str(after_revision + 1), "progress_notify": True}
        return {"create_request": start}

    # -- answers --

    def listing(self, answer: Json) -> Listing:
        """In the order of the keys: etcd sorts them as bytes, which is the order of UTF-8."""
        return Listing([self.versioned(kv) for kv in answer.get("kvs", [])], revision_of(answer))

    def outcome(self, answer: Json) -> Applied | Conflict:
        """Of a compare-and-set."""
        if answer.get("succeeded"):
            return Applied(revision_of(answer))
        found = answer["responses"][0]["response_range"].get("kvs")
        return Conflict(self.versioned(found[0]) if found else None)

    def events(self, result: Json) -> list[Event]:
        return [self._event(raw) for raw in result.get("events", [])]

    def _event(self, raw: Json) -> Event:
        kv = raw["kv"]
        value = None if raw.get("type") == "DELETE" else self.versioned(kv)
        return Event(self.inside(kv["key"]), value, int(kv["mod_revision"]))


def revision_of(answer: Json) -> int:
    return int(answer.get("header", {}).get("revision", 0))


def trouble_in(status: int, body: bytes) -> Trouble:
    """What an answer with another HTTP status than 200 says."""
    try:
        return trouble_of(json.loads(body))
    except ValueError:
        # no word of etcd's but of the HTTP server before it: what it calls the client's mistake went no further
        said = body[:200].decode(errors="replace").strip()
        return Trouble(_remedy(said) or f"HTTP status {status}", refused=400 <= status < 500)


def trouble_of(said: Any) -> Trouble:
    """What the gateway's JSON for an error says."""
    if not isinstance(said, dict):
        return Trouble(str(said), refused=False)
    code, message = said.get("code", said.get("grpc_code")), str(said.get("message", said))
    return Trouble(
        message,
        refused=code in _REFUSALS and message.startswith("etcdserver:"),
        unauthenticated=code == _UNAUTHENTICATED or _OLD_AUTHENTICATION in message,
    )


def _remedy(said: str) -> str:
    """Adds what to do to what etcd says of a client certificate that it would mistake for a user."""
    if "CommonName of client" not in said:
        return said
    return "with passwords and --client-cert-auth etcd takes only client certificates without a common name: issue one"
