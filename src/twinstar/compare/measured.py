"""Where the figures behind advice come from: a file of `twinstar compare --json`, or the one that is shipped."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from twinstar.compare.comparison import Comparison, from_json
from twinstar.model.errors import UsageError

SHIPPED = "measured.json"
"""Beside this module: a full run on the machine that it names."""


def measured(file: Path | None) -> Comparison | None:
    """`file`, or else the shipped one; None where none is shipped. Raises UsageError."""
    if file is not None:
        return from_json(_json(file))
    shipped = resources.files(__package__) / SHIPPED
    return from_json(json.loads(shipped.read_text(encoding="utf-8"))) if shipped.is_file() else None


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as trouble:
        raise UsageError(f"{file} cannot be read ({trouble.strerror}): name another file.") from None
    except ValueError:
        raise UsageError(f"{file} is no JSON: name a file that `twinstar compare --json` wrote.") from None
