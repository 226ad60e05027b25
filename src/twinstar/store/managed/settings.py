"""What a store keeper is told at its start: one JSON document, written by whoever starts it."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass
from typing import Any

from twinstar.model.address import Address
from twinstar.model.errors import UsageError


@dataclass(frozen=True, slots=True)
class StoreMember:
    """A member of the store by the configuration: where clients reach it, and where the other members do."""

    name: str
    client: Address
    peer: Address


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of this member, for its clients and for the other members alike."""

    certificate: str
    key: str
    authority: str


@dataclass(frozen=True, slots=True)
class KeeperSettings:
    """Paths are absolute."""

    cluster: str
    name: str
    secret_file: str
    """The key of the cluster's datagrams; the store's token is derived from it."""
    program: str
    folder: str
    """Holds the member's data, the keeper's memory and etcd's log; etcd stands in it."""
    quota_bytes: int
    heartbeat_ms: int
    """etcd's own; an election begins after ten without one."""
    bind: str
    """The address to listen on."""
    members: tuple[StoreMember, ...]
    """All of them, this one included; the first is the founder."""
    tls: TlsFiles | None = None

    @property
    def own(self) -> StoreMember:
        return next(member for member in self.members if member.name == self.name)

    @property
    def others(self) -> tuple[StoreMember, ...]:
        return tuple(member for member in self.members if member.name != self.name)

    @property
    def founder(self) -> bool:
        return self.members[0].name == self.name

    def url(self, at: Address) -> str:
        return f"{'https' if self.tls else 'http'}://{at}"

    def token(self, secret: bytes) -> str:
        """By which members of one store know each other before there is one."""
        said = "\n".join(["twinstar store", self.cluster, *(member.name for member in self.members)])
        return f"{self.cluster}-{hmac.new(secret, said.encode(), hashlib.sha256).hexdigest()[:32]}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> KeeperSettings:
        """Reads what `to_json` wrote. Raises UsageError."""
        try:
            raw = json.loads(text)
            members = tuple(_member(each) for each in raw.pop("members"))
            tls = raw.pop("tls", None)
            return cls(**raw, members=members, tls=TlsFiles(**tls) if tls else None)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"The store keeper's settings are not understood ({error}): write them again.") from None


def _member(raw: dict[str, Any]) -> StoreMember:
    return StoreMember(raw["name"], Address(**raw["client"]), Address(**raw["peer"]))
