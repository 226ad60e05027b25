"""What an agent makes of the configuration."""

from __future__ import annotations

from tests.config.example import example, node
from twinstar.agent.facts import ConfigFacts


def test_the_status_shows_where_a_member_is_reached_not_where_it_listens() -> None:
    config = example(insecure=True, nodes=[node(1, bind="0.0.0.0"), node(2), node(3)])
    address = ConfigFacts(config).address("n1")
    assert (address.host, address.port) == (config.nodes[0].host, config.nodes[0].port)
