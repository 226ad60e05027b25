"""A configuration to start from, as the text that a user would write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from twinstar.config.load import parse
from twinstar.config.schema import Config

FILE = Path("/etc/twinstar/twinstar.yaml")


def node(index: int, **changes: Any) -> dict[str, Any]:
    first = 5000 + 10 * index
    ports = {"port": first, "api_port": first + 1, "agent_port": first + 2, "guard_port": first + 3}
    return {"name": f"n{index}", "directory": f"/srv/n{index}", **ports, **changes}


def raw(count: int = 3, **changes: Any) -> dict[str, Any]:
    """What YAML would give; a change of None takes a key away."""
    document = {
        "cluster": "demo",
        "secrets": "secrets",
        "store": {"embedded": {"socket": "store.sock", "file": "store.sqlite"}},
        "nodes": [node(index + 1) for index in range(count)],
        "router": {"write_port": 6000, "read_port": 6001, "notice_port": 6002},
        **changes,
    }
    return {key: value for key, value in document.items() if value is not None}


MANY: dict[str, Any] = {
    "strategy": "active-active",
    "router": {"any_port": 6000, "read_port": 6001, "notice_port": 6002},
}


def many(**changes: Any) -> dict[str, Any]:
    """What makes it an active-active cluster."""
    return {**MANY, **changes}


def example(count: int = 3, **changes: Any) -> Config:
    return parse(yaml.safe_dump(raw(count, **changes)), FILE)
