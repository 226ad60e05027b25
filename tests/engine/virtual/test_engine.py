"""The simulated database as an engine: the suite for all of them."""

from __future__ import annotations

from tests.engine.conformance import Conformance


class TestConformance(Conformance):
    """The same as the real one's, on virtual time and with several seeds."""
