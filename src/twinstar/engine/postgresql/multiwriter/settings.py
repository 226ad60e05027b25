"""What one applier needs to know: a JSON file that this node's agent writes. It holds no password: a passfile does."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinstar.config.complaint import path_of
from twinstar.engine.postgresql.multiwriter.session import origin_name
from twinstar.model.errors import UsageError

_NAME = r"^[a-z0-9_]{1,63}$"


class ApplierSettings(BaseModel):
    """`local` and `peer` are connection parameters of libpq."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    local: dict[str, str | int]
    peer: dict[str, str | int]
    peer_name: str
    """By which people know the peer."""
    system_identifier: str
    """The peer's: any other database at its address is not the peer."""
    slot: str = Field(pattern=_NAME)
    """On the peer, for this node."""
    publication: str = "twinstar"
    application_name: str = "twinstar"
    """What ``synchronous_standby_names`` of the peer calls this node."""
    spool: Path | None = None
    """A folder for what was received: receipt is confirmed. None: confirmed is what was applied."""

    @property
    def origin(self) -> str:
        return origin_name(self.system_identifier, self.slot)


def load(path: Path) -> ApplierSettings:
    """Raises UsageError."""
    try:
        return ApplierSettings.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}): name the file that the agent has written.") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{path}: `{path_of(first['loc'])}` is wrong ({first['msg']}): correct it.") from None
