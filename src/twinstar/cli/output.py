"""What all commands share: how results, progress and errors are shown."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_WIDTH = 160
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The configuration; else twinstar.yaml here or in a folder above."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def console(*, stderr: bool = False) -> Console:
    """Where tables go. Wide enough for them where there is no terminal to be narrow."""
    from rich.console import Console

    made = Console(stderr=stderr)
    return made if made.is_terminal else Console(stderr=stderr, width=_PLAIN_WIDTH)


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def stop_on_sigterm() -> None:
    """SIGTERM and SIGHUP end the program as Ctrl-C does, so that everything is put away in order."""

    def leave(number: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


@contextlib.contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Shows what happens now: a line with a spinner on a terminal, a new line for each change elsewhere.

    Progress goes to standard error, so that standard output holds the result alone.
    """
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(title) as status:
            yield lambda text: status.update(f"{title}: {text}")
    else:
        last = [""]

        def say(text: str) -> None:
            if text != last[0]:
                last[0] = text
                sys.stderr.write(f"{title}: {text}\n")
                sys.stderr.flush()

        yield say
