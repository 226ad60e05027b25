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
from twinstar.simulation.ablations.table import chosen, named
from twinstar.simulation.faults.disaster import EVERYTHING


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
    with applied(*ablation.swaps):
        assert all(_now(swap) is not was for swap, was in zip(ablation.swaps, before, strict=True))
    assert [_now(swap) for swap in ablation.swaps] == before


def test_it_is_out_wherever_it_was_imported() -> None:
    with applied(Swap("twinstar.rules.election:majority", always(1))) as differences:
        assert vars(suspicion)["majority"](5) == 1
        assert differences.count == 1
    assert vars(suspicion)["majority"] is majority


@pytest.mark.parametrize("target", ["twinstar.rules.election:gone", "twinstar.gone:x", "twinstar.agent.body:Body.gone"])
def test_a_safeguard_that_is_no_more_breaks_loudly(target: str) -> None:
    with pytest.raises(UnknownTarget, match="catalogue"), applied(Swap(target, always(1))):
        pass


def test_names_are_unique_and_can_be_chosen() -> None:
    assert len({each.name for each in CATALOGUE}) == len(CATALOGUE)
    assert [each.name for each in chosen(["opening gate"])] == ["opening gate"]
    assert {each.name for each in chosen(["gate"])} == {"opening gate", "the router's opening gate"}
    assert chosen([]) == list(CATALOGUE)
    with pytest.raises(UsageError, match=r"ablations\.md"):
        chosen(["no such thing"])


def test_who_covers_for_another_is_in_the_catalogue_and_said() -> None:
    for each in CATALOGUE:
        assert bool(each.partners) == bool(each.covered)
        assert all(each.name != partner and named(partner) for partner in each.partners)


def test_each_is_looked_for_by_traps_that_there_are() -> None:
    faults = {fault.name for fault in EVERYTHING}
    assert {name for each in CATALOGUE for name in each.aimed} <= faults
    assert all(each.aimed for each in CATALOGUE)


def _table(*options: str) -> list[dict[str, Any]]:
    """What the command finds: its processes end with it."""
    command = [sys.executable, "-m", "twinstar.cli.main", "simulate", "--ablations", "--jobs", "1", "--json", "-"]
    done = subprocess.run([*command, *options], capture_output=True, timeout=900)
    return list(json.loads(done.stdout)["ablations"])


_A_HANDFUL = (
    "durable promise",
    "every sealed copy may name",
    "a deaf leader is replaced",
    "a broken-off promotion is ended",
    "a guard keeps the lease that it knows",
)


def test_what_is_taken_out_is_noticed() -> None:
    rows = _table(*(option for name in _A_HANDFUL for option in ("--without", name)), "--seeds", "16")
    assert {row["name"] for row in rows} == set(_A_HANDFUL)
    assert [row["name"] for row in rows if not row["noticed"] or not row["reached"]] == []


@pytest.mark.soak
@pytest.mark.timeout(1_000)
@pytest.mark.parametrize("ablation", CATALOGUE, ids=lambda each: each.name)
def test_each_makes_a_difference(ablation: Ablation) -> None:
    """Otherwise its line in the table would say nothing."""
    row = next(row for row in _table("--without", ablation.name, "--seeds", "60") if row["name"] == ablation.name)
    assert row["reached"]
    assert row["noticed"]
