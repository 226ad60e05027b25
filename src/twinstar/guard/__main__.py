"""`python -m twinstar.guard SETTINGS.json`: runs one guard until it is ended. Exit 2: settings; 1: environment."""

from __future__ import annotations

import importlib.util
import sys

if importlib.util.find_spec("_sha256") or importlib.util.find_spec("_sha2"):
    # Python's own SHA-256 is enough for a few datagrams a second; OpenSSL would be a fifth of the guard's memory.
    sys.modules["_hashlib"] = None  # type: ignore[assignment]

from twinstar.guard.settings import GuardSettings
from twinstar.guard.shell import Shell
from twinstar.model.errors import TwinstarError, UsageError
from twinstar.ports.guard_io import settle_process


def main(arguments: list[str]) -> int:
    settle_process()
    try:
        Shell(_settings(arguments)).run()
    except TwinstarError as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, UsageError) else 1
    return 0


def _settings(arguments: list[str]) -> GuardSettings:
    if len(arguments) != 1:
        raise UsageError("Name one file of settings: python -m twinstar.guard SETTINGS.json")
    try:
        with open(arguments[0], encoding="utf-8") as file:
            return GuardSettings.from_json(file.read())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The guard's settings {arguments[0]} cannot be read ({error}): check the path.") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
