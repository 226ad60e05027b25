"""A database on its way up is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.rules.views import STOPPED, view
from twinstar.model.effects import Kill, Start
from twinstar.model.engine import EngineStatus
from twinstar.rules.active_passive import decide

REMAINS = replace(STOPPED, status=EngineStatus.REMAINS)


@pytest.mark.parametrize("me", ["n1", "n2"])
def test_what_looks_like_remains_while_it_is_started_is_not_killed(me: str) -> None:
    """A server that is being started has processes before it has its pid file."""
    assert decide(view(me, engine=REMAINS, running_effect=Start())).engine == Start()


@pytest.mark.parametrize("me", ["n1", "n2"])
def test_remains_are_killed(me: str) -> None:
    assert decide(view(me, engine=REMAINS)).engine == Kill()
