"""Safeguards are taken out for a while, the simulator notices, and afterwards everything is as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

from twinstar.model.errors import UsageError
from twinstar.rules.active_passive import suspicion
from twinstar.rules.election import majority
from twinstar.simulation.ablations.catalogue import CATALOGUE
from twinstar.simulation.ablations.swap import Ablation, Swap, UnknownTarget, always, applied
from twinstar.simulation.ablations.table import chosen

_SEEDS_TO_REACH = 60


def _now(swap: Swap) -> object:
    module, _, path = swap.target.partition(":")
    *classes, name = path.split(".")
    owner: object = import_module(module)
    for each in classes:
        owner = getattr(owner, each)
    return vars(owner)[name]


@pytest.mark.parametrize("ablation", CATALOGUE, ids=lambda each: each.name)
def test_a_safeguard_is_out_for_a_while_and_then_back(ablation: Ablation) -> None:
    before = [_now(swap) for swap in ablation.swaps]
    with applied(ablation):
        assert all(_now(swap) is not was for swap, was in zip(ablation.swaps, before, strict=True))
    assert [_now(swap) for swap in ablation.swaps] == before


def test_it_is_out_wherever_it_was_imported() -> None:
    ablation = Ablation("votes", "", "", (Swap("twinstar.rules.election:majority", always(1)),))
    with applied(ablation) as differences:
        assert vars(suspicion)["majority"](5) == 1
        assert differences.count == 1
    assert vars(suspicion)["majority"] is majority


@pytest.mark.parametrize("target", ["twinstar.rules.election:gone", "twinstar.gone:x", "twinstar.agent.body:Body.gone"])
def test_a_safeguard_that_is_no_more_breaks_loudly(target: str) -> None:
    with pytest.raises(UnknownTarget, match="catalogue"), applied(Ablation("", "", "", (Swap(target, always(1)),))):
        pass


def test_names_are_unique_and_can_be_chosen() -> None:
    assert len({each.name for each in CATALOGUE}) == len(CATALOGUE)
    assert [each.name for each in chosen(["durable promise"])] == ["durable promise"]
    with pytest.raises(UsageError, match=r"ablations\.md"):
        chosen(["no such thing"])


def _table(*options: str) -> dict[str, Any]:
    """What the command finds: its processes end with it."""
    command = [sys.executable, "-m", "twinstar.cli.main", "simulate", "--ablations", "--jobs", "1", "--json", "-"]
    done = subprocess.run([*command, *options], capture_output=True, timeout=900)
    (row,) = json.loads(done.stdout)["ablations"]
    return dict(row)


def test_what_is_taken_out_is_noticed() -> None:
    row = _table("--without", "durable promise", "--seeds", "40")
    assert (row["noticed"], row["invariant"]) == (True, "I1")
    assert row["reached"] > 0


@pytest.mark.soak
@pytest.mark.timeout(1_000)
@pytest.mark.parametrize("ablation", CATALOGUE, ids=lambda each: each.name)
def test_each_makes_a_difference(ablation: Ablation) -> None:
    """Otherwise its line in the table would say nothing."""
    row = _table("--without", ablation.name, "--seeds", str(_SEEDS_TO_REACH))
    assert row["reached"], f"in {_SEEDS_TO_REACH} seeds nothing was done otherwise without: {ablation.name}"
