"""Commands that replace this process by another program, so that nothing of the command line stays in memory."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from twinstar.model.errors import EnvironmentTrouble, UsageError


def become_module(module: str, *arguments: str) -> NoReturn:
    """Runs a module of this package in this process's place."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606


def in_memory(text: str) -> str:
    """The path of a file that has no place on disk and goes when the program that is started here ends."""
    descriptor = os.memfd_create("twinstar", 0)  # No close-on-exec: it is for whom this process becomes.
    os.write(descriptor, text.encode())
    return f"/proc/self/fd/{descriptor}"


def become_launched(launch: Path) -> NoReturn:
    """Runs what the launch file names: ``argv``, over this environment ``environment``, its output appended to
    ``output``. Raises TwinstarError.

    The file is an order for one run, so it is removed first.
    """
    try:
        raw = json.loads(launch.read_text(encoding="utf-8"))
        argv = [str(word) for word in raw["argv"]]
        environment = {**os.environ, **{str(key): str(value) for key, value in raw.get("environment", {}).items()}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as trouble:
        raise UsageError(
            f"{launch} is no launch file ({trouble}): let the agent write it, by starting the agent first."
        ) from None
    if not argv:
        raise UsageError(f"{launch} names no program: let the agent write it again.")
    try:
        launch.unlink()
        if output := raw.get("output"):
            _append_output_to(str(output))
        os.execvpe(argv[0], argv, environment)  # noqa: S606
    except OSError as trouble:
        raise EnvironmentTrouble(f"{argv[0]} cannot be run ({trouble.strerror}): install it.") from None


def _append_output_to(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
