"""Where a cluster that runs on this machine keeps its traces: the folder ``.twinstar`` beside its `twinstar.yaml`.

`up.json` says what runs: each program with its pid and start time, so that nobody else's process is ever taken for one
of ours. `lock` is held by the supervisor while it lives. Every process that it starts, and all of their descendants,
carry the same `MARK` in their environment.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from twinstar.model.errors import EnvironmentTrouble, UsageError
from twinstar.ports.procfs import is_running

CONFIG_NAME = "twinstar.yaml"
MARK = "TWINSTAR_UP"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Running:
    """One program of a local cluster. `node` is empty for store and router; `status` is set when it has ended."""

    name: str
    kind: str
    node: str
    run: str
    log: str
    status: int | None = None

    @property
    def alive(self) -> bool:
        return self.status is None and is_running(self.run)


@dataclass(frozen=True, slots=True)
class State:
    """What the supervisor last wrote down."""

    cluster: str
    mark: str
    supervisor: str
    programs: tuple[Running, ...] = ()
    schema: int = SCHEMA

    def program(self, name: str) -> Running | None:
        return next((program for program in self.programs if program.name == name), None)

    def of_kind(self, kind: str) -> list[Running]:
        return [program for program in self.programs if program.kind == kind]


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """The paths of one local cluster, from the absolute path of its configuration."""

    config: Path

    @property
    def folder(self) -> Path:
        return self.config.parent / ".twinstar"

    @property
    def state(self) -> Path:
        return self.folder / "up.json"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def control(self) -> Path:
        return self.folder / "control"

    @property
    def logs(self) -> Path:
        return self.folder / "log"

    @property
    def settings(self) -> Path:
        return self.folder / "settings"

    @property
    def etcd(self) -> Path:
        """There when `up` was asked to run etcd itself."""
        return self.folder / "etcd"

    @property
    def kubernetes(self) -> Path:
        """Likewise a Kubernetes API server."""
        return self.folder / "kubernetes"

    @property
    def zookeeper(self) -> Path:
        """Likewise."""
        return self.folder / "zookeeper"

    @property
    def network(self) -> Path:
        """There when each node has a network namespace of its own (`namespaces.Network`)."""
        return self.folder / "network.json"

    def read_state(self) -> State | None:
        """What runs here, as far as anybody wrote it down. Raises EnvironmentTrouble for a file that is not ours."""
        try:
            raw = json.loads(self.state.read_text())
            programs = tuple(Running(**program) for program in raw.pop("programs"))
            return State(**raw, programs=programs)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as trouble:
            raise EnvironmentTrouble(
                f"{self.state} cannot be read ({trouble}): run `twinstar down` with the version that wrote it."
            ) from None

    def write_state(self, state: State) -> None:
        draft = self.state.with_suffix(".new")
        draft.write_text(json.dumps(asdict(state), indent=1))
        draft.replace(self.state)


def find_config(given: Path | None) -> Path:
    """The configuration meant: the one given, or `twinstar.yaml` here or in a folder above. Raises UsageError."""
    if given is not None:
        if not given.is_file():
            raise UsageError(f"There is no {given}: name an existing file with --config, or run `twinstar init`.")
        return given.absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / CONFIG_NAME).is_file():
            return folder / CONFIG_NAME
    raise UsageError(
        f"There is no {CONFIG_NAME} here or in a folder above: change to a cluster's folder, name a file with "
        "--config, or start a cluster with `twinstar up --nodes 3`."
    )


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A path to a socket that fits into its 108 bytes, however deep the folder is: through the folder's descriptor."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
