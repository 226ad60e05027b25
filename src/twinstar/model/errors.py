"""One small tree of errors: ours, the peer's, the environment's. An unknown outcome is a result, not an error."""

from __future__ import annotations


class TwinstarError(Exception):
    """Anything that can go wrong and be said in one sentence that names what to do next."""


class UsageError(TwinstarError):
    """The user's input is wrong: configuration, option, command. Exit status 2."""


class EnvironmentTrouble(TwinstarError):
    """Something this program needs is missing or refuses: a port, a disk, a binary, the store."""


class EngineError(EnvironmentTrouble):
    """The database software did not do what was asked."""


class StoreUnavailable(EnvironmentTrouble):
    """The coordination store did not answer in time. Nothing is known about its content."""


class PeerError(TwinstarError):
    """Another member sent something that cannot be right."""


class UnknownSchema(PeerError):
    """A document or message of a version this program does not know: refused, never guessed at."""

    def __init__(self, what: str, found: object, known: int) -> None:
        super().__init__(
            f"The {what} has schema version {found!r}, this program knows {known}: "
            "run the same version of Twinstar on every node."
        )


class ProtocolBreach(TwinstarError):
    """A safety assertion failed. The member stops serving rather than going on."""


class EpochSpent(ProtocolBreach):
    """A promotion for this epoch has begun before and was cut off by a crash: only a later one can be begun."""
