"""The pages name every key, state, field and metric that there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from tests.api.small_cluster import SmallCluster
from tests.config.test_template import keys
from twinstar.api.commands import COMMANDS
from twinstar.api.health import CHECKS
from twinstar.api.metrics import Metrics
from twinstar.api.status import MemberState
from twinstar.api.tables import TABLE_COMMANDS
from twinstar.config.schema import Config
from twinstar.config.secrets import Secret

DOCS = Path(__file__).parents[2] / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")
STATUS = (DOCS / "status.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", keys(Config))
def test_every_key_is_in_the_reference(key: str) -> None:
    assert re.search(rf"`([a-z.]*\.)?{key.rpartition('.')[2]}`", CONFIGURATION)


@pytest.mark.parametrize("name", Secret)
def test_every_secret_is_named(name: Secret) -> None:
    assert f"`{name}`" in CONFIGURATION


def test_every_field_and_state_of_the_status_is_explained() -> None:
    status = SmallCluster().status()
    named = [
        *status,
        *status["members"][0],
        *MemberState,
        *(f"/{name}" for name in (*COMMANDS, *TABLE_COMMANDS)),
        *CHECKS,
    ]
    missing = [name for name in named if not re.search(rf"`{re.escape(name)}[`.]", STATUS)]
    assert missing == []


def test_every_metric_is_named() -> None:
    assert [f.name for f in fields(Metrics) if f"`twinstar_{f.name}`" not in STATUS] == []
