"""What a new configuration says, and how single lines of the commented file are written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from twinstar.config.schema import Strategy


@dataclass(frozen=True, slots=True)
class NodeText:
    name: str
    host: str
    ports: tuple[int, int, int, int]
    """Database, HTTP, agent's and guard's datagrams."""
    directory: Path


@dataclass(frozen=True, slots=True)
class WitnessText:
    name: str
    host: str
    ports: tuple[int, int]
    """The agent's and the guard's datagrams."""
    directory: Path


@dataclass(frozen=True, slots=True)
class StoreText:
    """`socket` and `file` (embedded), `managed_port` (managed), or what `kind` names at `endpoints` or `kubeconfig`."""

    socket: Path | None = None
    file: Path | None = None
    endpoints: tuple[str, ...] = ()
    """etcd: URLs; zookeeper: ``host:port``."""
    kubeconfig: Path | None = None
    kind: str = "etcd"
    certificates: bool = False
    """With the files of `Plan.certificates`, signed by the same authority; to be edited where it is another."""
    managed_port: int | None = None
    """managed: of the first member."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a new configuration says; None: the default, written as a comment."""

    cluster: str
    secrets: Path
    store: StoreText
    nodes: tuple[NodeText, ...]
    router_bind: tuple[str, ...]
    router_ports: tuple[int, int, int]
    """Write (active-active: any), read, notices."""
    router_hosts: tuple[str, ...] = ()
    witnesses: tuple[WitnessText, ...] = ()
    strategy: Strategy = "active-passive"
    durability: str | None = None
    policy: str | None = None
    preset: str = "balanced"
    lease_ms: int | None = None
    required: int | None = None
    removal_ms: int | None = None
    insecure: bool = False
    certificates: Path | None = None
    """A folder; None: no TLS."""
    bin_dir: Path | None = None


def scalar(value: object) -> str:
    """A scalar as YAML reads it back: plain where that is unambiguous, otherwise in JSON's quotes, which YAML takes."""
    text = str(value)
    if not isinstance(value, str | Path):
        return text
    try:
        plain = yaml.safe_load(f"k: {text}") == {"k": text} and text.strip() == text
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text)


def key_line(name: str, value: object | None, default: str) -> str:
    """The line of a key: the value that was chosen, or the default as a comment."""
    return f"# {name}: {default}" if value is None else f"{name}: {scalar(value)}"


def chosen(value: str | None, default: str) -> str | None:
    """None where the default was chosen."""
    return None if value == default else value


def inline_list(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(json.dumps(value) for value in values) + "]"
