"""What the status shows of the configuration."""

from __future__ import annotations

from typing import Any

from twinstar.config import derive, dsn
from twinstar.config.schema import Config
from twinstar.model.address import Address


class ConfigFacts:
    """What the status shows of the configuration."""

    def __init__(self, config: Config) -> None:
        self.take_over(config)

    def take_over(self, config: Config) -> None:
        """From now on it is this one."""
        self._config = config
        self.cluster = config.cluster
        self.policy: str = derive.policy(config)
        self.store_kind = config.store.kind
        self.write_dsn = dsn.client_dsn(config, "write")
        self.read_dsn = dsn.client_dsn(config, "read")
        self._nodes = {node.name: node for node in config.nodes}

    def member_dsn(self, member: str) -> str:
        return dsn.member_dsn(self._config, self._nodes[member])

    def address(self, member: str) -> Address:
        return derive.addresses(self._nodes[member]).database

    def tags(self, member: str) -> dict[str, Any]:
        return self._nodes[member].tags.model_dump(exclude_defaults=True)
