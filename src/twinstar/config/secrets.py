"""Secrets: one file each, readable by its owner alone, or an environment variable each.

They are read when they are needed and never kept, so that a changed file counts from the next use, and nothing that
prints, logs or reports this object can show one. `TWINSTAR_SECRET_API_TOKEN` stands before the file `api_token`.
"""

from __future__ import annotations

import os
import secrets as generator
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

from twinstar.model.errors import UsageError

ENVIRONMENT_PREFIX = "TWINSTAR_SECRET_"
_PRIVATE_FILE = 0o600
_PRIVATE_DIRECTORY = 0o700


class Secret(StrEnum):
    WIRE = "wire"
    """The HMAC key of the datagrams; the same on every node and router."""
    API_TOKEN = "api_token"  # noqa: S105
    """What a command over HTTP must present."""
    AGENT_PASSWORD = "agent_password"  # noqa: S105
    REPLICATION_PASSWORD = "replication_password"  # noqa: S105
    REWIND_PASSWORD = "rewind_password"  # noqa: S105
    ROUTER_PASSWORD = "router_password"  # noqa: S105
    APP_PASSWORD = "app_password"  # noqa: S105
    """The application's own."""


class Secrets:
    """The secrets of one cluster, in `directory` or in `environment` (the process's own, unless given)."""

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        self._environment = os.environ if environment is None else environment

    @property
    def directory(self) -> Path:
        return self._directory

    def read(self, name: str) -> str:
        """The secret, without white space around it. Raises UsageError: it is missing, empty or readable by others."""
        given = self._environment.get(ENVIRONMENT_PREFIX + name.upper())
        return given or read_private(self._directory / name, _remedy(name))

    def wire_key(self) -> bytes:
        """The key of `model.wire`'s HMAC. Raises UsageError."""
        return self.read(Secret.WIRE).encode()

    def missing(self) -> list[str]:
        """The secrets that are neither in the environment nor in the directory."""
        return [
            name.value
            for name in Secret
            if not self._environment.get(ENVIRONMENT_PREFIX + name.upper()) and not (self._directory / name).exists()
        ]

    def make(self) -> list[str]:
        """Writes a new random secret for each that has no file; returns the names written. Those that are there stay:
        the databases know them already. Raises UsageError when the directory cannot be written.
        """
        try:
            self._directory.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            made = [name.value for name in Secret if not (self._directory / name).exists()]
            for name in made:
                write_private(self._directory / name, generator.token_urlsafe(32) + "\n")
        except OSError as error:
            raise UsageError(
                f"The secrets cannot be written to {self._directory} ({error.strerror}): "
                "choose a directory that you may write to."
            ) from None
        return made

    def __repr__(self) -> str:
        return f"Secrets({self._directory}, hidden)"


def read_private(path: Path, remedy: str) -> str:
    """The text of a file that only its owner may read. Raises UsageError, ending with `remedy` when it is missing."""
    try:
        if path.stat().st_mode & 0o077:
            raise UsageError(f"Others than its owner may read the secret {path}: run `chmod 600 {path}`.")
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise UsageError(f"The secret {path} is missing: {remedy}.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"The secret {path} cannot be read ({reason}): run as its owner, or correct it.") from None
    if not text:
        raise UsageError(f"The secret {path} is empty: {remedy}.")
    return text


def write_private(path: Path, text: str) -> None:
    """Writes a file of mode 0600 that never exists half written or readable by others. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def passfile_text(entries: Iterable[tuple[str, int | str, str, str, str]]) -> str:
    """libpq's password file: a line per (host, port, database, user, password); ``*`` matches anything."""
    return "".join(":".join(_escaped(str(field)) for field in entry) + "\n" for entry in entries)


def _escaped(field: str) -> str:
    return field.replace("\\", "\\\\").replace(":", "\\:")


def _remedy(name: str) -> str:
    return f"run `twinstar init` to make it, copy it from another node, or set {ENVIRONMENT_PREFIX}{name.upper()}"
