"""The `twinstar.yaml` to start from: what was chosen, with hosts that stand for the reader's own."""

from __future__ import annotations

from pathlib import Path

from twinstar.compare.advising import Choice
from twinstar.config.load import parse
from twinstar.config.machines import plan_for_machines
from twinstar.config.plan import StoreText
from twinstar.config.template import render

_ELSEWHERE = "elsewhere"


def starting_file(choice: Choice, file: Path) -> str:
    """The commented text, for the place `file`. Raises UsageError where our own loader refuses it."""
    places = range(1, len(choice.nodes) + 1)
    at = [place for place, count in zip(places, choice.nodes, strict=True) for _ in range(count)]
    nodes = [(f"n{number}", _host(f"n{number}", place, choice)) for number, place in enumerate(at, 1)]
    stores: list[int | str] = [place for place, count in zip(places, choice.stores, strict=True) for _ in range(count)]
    stores += [_ELSEWHERE] * choice.elsewhere
    etcd = tuple(f"https://{_host(f'etcd{number}', place, choice)}:2379" for number, place in enumerate(stores, 1))
    text = _HEAD + render(
        plan_for_machines(
            nodes,
            StoreText(endpoints=etcd),
            strategy=choice.strategy,
            durability=choice.durability,
            required=choice.required if choice.required != len(nodes) // 2 else None,
            policy=choice.policy,
            preset=choice.preset,
            lease_ms=choice.lease_ms,
            removal_ms=choice.removal_ms,
        )
    )
    parse(text, file)
    return text


_HEAD = """\
# Made by `twinstar advise`. Put your own hosts where it says .example; `twinstar init --renew` makes secrets and
# certificates then.

"""


def _host(name: str, place: int | str, choice: Choice) -> str:
    """Names that nobody has (RFC 2606)."""
    if len(choice.nodes) == 1:
        return f"{name}.example"
    return f"{name}.{place if place == _ELSEWHERE else f'region{place}'}.example"
