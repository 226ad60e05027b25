"""A key and its value as an object of the API, and back. Pure.

`spec` is what counts, and is compared with what was asked for. `shown` is for whoever runs ``kubectl get``: the fields
of the value that say who leads, where the value is a JSON object that has them. Nothing reads it.

**Why `spec.after`.** The API server makes nothing of an update that changes nothing: the resource version stays. But a
change whose outcome is unknown is settled by *moving* the revision, with the same value (`settle`). So each object
says which revision it was written after; what stands was written after an older one, hence no update is empty.
"""

from __future__ import annotations

import base64
import datetime
import json
from dataclasses import dataclass
from typing import Any

from twinstar.store.base import ABSENT, Versioned
from twinstar.store.kubernetes.names import label_of, name_of

Json = dict[str, Any]

GROUP = "twinstar.dev"
VERSION = "v1"
PLURAL = "twinstarrecords"
KIND = "TwinstarRecord"
CLUSTER_LABEL = f"{GROUP}/cluster"
_SHOWN = {"epoch": int, "phase": str, "leader": str}


class Strange(ValueError):
    """An object that is none of ours; the message says so, without a full stop."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything of one cluster, as of the store's `revision`, in the order of the keys."""

    values: list[Versioned]
    revision: int


class Records:
    """The objects of one cluster in one namespace."""

    def __init__(self, cluster: str, namespace: str) -> None:
        self.cluster = cluster
        self.collection = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"
        self.selection = f"labelSelector={CLUSTER_LABEL}%3D{label_of(cluster)}"
        """The part of a query that chooses this cluster's."""

    def name(self, key: str) -> str:
        return name_of(self.cluster, key)

    def path(self, key: str) -> str:
        return f"{self.collection}/{self.name(key)}"

    def written(self, key: str, value: bytes, after: int, wall_ms: int) -> Json:
        """The object to create (`after` is `ABSENT`) or to put where the one of that revision stands."""
        metadata: Json = {"name": self.name(key), "labels": {CLUSTER_LABEL: label_of(self.cluster)}}
        if after != ABSENT:
            metadata["resourceVersion"] = str(after)
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": metadata,
            "spec": {"cluster": self.cluster, "key": key, "after": str(after), **_packed(value)},
            "shown": {**_shown(value), "changed": _rfc3339(wall_ms)},
        }

    def read(self, found: Json) -> Versioned:
        """What an object holds. Raises Strange."""
        try:
            metadata, spec = found["metadata"], found["spec"]
            cluster, key = spec["cluster"], spec["key"]
            if cluster != self.cluster or metadata["name"] != self.name(key):
                raise Strange(f"the object {metadata['name']} says that it is {key} of the cluster {cluster}")
            return Versioned(key, _unpacked(spec), revision_of(found))
        except (KeyError, TypeError) as error:
            raise Strange(f"an object lacks {error}") from None

    def listing(self, found: Json) -> Listing:
        """Raises Strange."""
        values = [self.read(each) for each in found.get("items") or []]
        return Listing(sorted(values, key=lambda value: value.key.encode()), revision_of(found))


def revision_of(found: Json) -> int:
    """The resource version of an object or a listing. Raises Strange.

    Kubernetes calls it opaque to its clients before 1.35; since then it is promised to be a decimal number that grows
    (KEP-5504). It has always been etcd's revision, which is one.
    """
    try:
        return int(found["metadata"]["resourceVersion"])
    except (KeyError, TypeError, ValueError):
        raise Strange("there is no number in metadata.resourceVersion") from None


def _packed(value: bytes) -> Json:
    """As text where it is text, so that people can read it."""
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _unpacked(spec: Json) -> bytes:
    if "base64" in spec:
        return base64.b64decode(spec["base64"])
    return str(spec["text"]).encode()


def _shown(value: bytes) -> Json:
    try:
        document = json.loads(value)
    except ValueError:
        return {}
    if not isinstance(document, dict):
        return {}
    return {name: document[name] for name, kind in _SHOWN.items() if type(document.get(name)) is kind}


def _rfc3339(wall_ms: int) -> str:
    return datetime.datetime.fromtimestamp(wall_ms / 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
