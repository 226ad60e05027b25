"""The built-in router as a process, and what is true of it alone."""

from __future__ import annotations

import sys
from typing import ClassVar

from tests.router.conformance import RouterConformance


class TestBuiltinRouter(RouterConformance):
    command: ClassVar[list[str]] = [sys.executable, "-m", "twinstar.router", "--config"]
