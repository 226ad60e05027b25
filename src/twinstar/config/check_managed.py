"""What must not stand together about a store that Twinstar runs. As in `check`: a sentence, or None."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from twinstar.config.managed import places
from twinstar.config.schema import Config

MOST_MEMBERS = 7


def members_are_nodes(config: Config) -> str | None:
    names = {node.name for node in config.nodes}
    for name in config.store.managed.members if config.store.managed else ():
        if name not in names:
            return f"`store.managed.members` names {name}, which is no node: choose among {', '.join(sorted(names))}."
    return None


def members_make_a_majority(config: Config) -> str | None:
    count = len(places(config))
    if count == 2:
        return (
            "`store.managed` has two members, so that the loss of either would stop the store: add a witness "
            "(`witnesses`), or write the one node that has it into `store.managed.members`."
        )
    if count and count % 2 == 0:
        return (
            f"`store.managed` has {count} members, which survive no more losses than {count - 1}: add a witness, or "
            "name fewer nodes in `store.managed.members`."
        )
    if count > MOST_MEMBERS:
        return f"`store.managed` has {count} members: name at most {MOST_MEMBERS} in `store.managed.members`."
    return None


def members_listen_on_addresses(config: Config) -> str | None:
    """etcd listens on addresses, not on names."""
    for place in places(config):
        if place.bind != "localhost" and not _is_address(place.bind):
            return (
                f"{place.name} is at {place.bind}, a name, and a member of the store listens on an address: write "
                "`bind` with that machine's own beside `host`."
            )
    return None


def listeners(config: Config) -> Iterator[tuple[str, str, int, str]]:
    """(TCP or UDP, host, port, key) of witnesses and of the store's members."""
    for index, witness in enumerate(config.witnesses):
        yield "UDP", witness.host, witness.agent_port, f"witnesses[{index}].agent_port"
        yield "UDP", witness.host, witness.guard_port, f"witnesses[{index}].guard_port"
    for place in places(config):
        yield "TCP", place.host, place.port, f"store.managed.port (the member of {place.name})"
        yield "TCP", place.host, place.port + 1, f"store.managed.port (the member of {place.name}, for the others)"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
