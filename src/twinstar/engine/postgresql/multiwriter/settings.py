"""What one applier needs to know: a JSON file that this node's agent writes. It holds no password: a passfile does."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinstar.config.complaint import path_of
from twinstar.engine.postgresql.multiwriter.names import origin_name, slot_name
from twinstar.model.errors import UsageError


class ApplierSettings(BaseModel):
    """`local` and `peer` are connection parameters of libpq."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    local: dict[str, str | int]
    peer: dict[str, str | int]
    peer_name: str
    """By which people know the peer."""
    number: int = Field(ge=1)
    """This node's. A database with another one is not this node's."""
    peer_number: int = Field(ge=1)
    """The peer's: any other database at its address is not the peer."""
    durability: Literal["async", "quorum"] = "async"
    """With `quorum` the peer's commits wait until this node has received them; `synchronous_standby_names` of the peer
    calls it by the name of its slot.
    """
    receives: bool = True
    """False: the peer was declared dead. What was received of its log is applied, and nothing more of it is taken."""
    spool: Path
    """A folder for what was received and is not applied yet. With `async` it is empty, once it has been emptied."""
    state_file: Path
    """Here the process says once a second how far it is."""
    parent: str | None = None
    """The run (`Processes.run_id`) of the process with whose end this one ends."""

    @property
    def slot(self) -> str:
        """At the peer, for this node."""
        return slot_name(self.number)

    @property
    def origin(self) -> str:
        """Here, for what comes from the peer."""
        return origin_name(self.peer_number)


def load(path: Path) -> ApplierSettings:
    """Raises UsageError."""
    try:
        return ApplierSettings.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}): name the file that the agent has written.") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{path}: `{path_of(first['loc'])}` is wrong ({first['msg']}): correct it.") from None
