"""The ports of a local cluster, tried before anything is started: a database that finds its own taken keeps trying."""

from __future__ import annotations

from collections.abc import Iterator

from twinstar.config.check_managed import listeners as managed_listeners
from twinstar.config.derive import bind_addresses, endpoints
from twinstar.config.schema import Config
from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports.free_ports import is_taken

_TCP, _UDP = False, True


def refuse_taken_ports(config: Config) -> None:
    """Raises EnvironmentTrouble for the first port that somebody else listens on."""
    for whose, host, port, datagrams in _ports(config):
        if is_taken(host, port, datagrams=datagrams):
            raise EnvironmentTrouble(
                f"{whose} cannot listen: the {'UDP ' if datagrams else ''}port {port} of {host} is taken by another "
                f"program. End that (`ss -lpn 'sport = :{port}'` names it), or choose another port in twinstar.yaml."
            )


def _ports(config: Config) -> Iterator[tuple[str, str, int, bool]]:
    for node in config.nodes:
        at = bind_addresses(node)
        yield f"The database of {node.name}", at.database.host, at.database.port, _TCP
        yield f"{node.name} agent", at.api.host, at.api.port, _TCP
        yield f"{node.name} agent", at.agent.host, at.agent.port, _UDP
        yield f"{node.name} guard", at.guard.host, at.guard.port, _UDP
    for kind, host, port, key in managed_listeners(config):
        yield f"`{key}`", host, port, kind == "UDP"
    if config.router is not None:
        for host in config.router.bind:
            for port in endpoints(config).values():
                yield "The router", host, port, _TCP
        yield "The router", config.router.bind[0], config.router.notice_port, _UDP
