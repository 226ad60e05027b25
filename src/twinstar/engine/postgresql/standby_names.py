"""Who must confirm, as PostgreSQL's ``synchronous_standby_names`` says it, and as we read it back.

PostgreSQL's own setting cannot say for which epoch nobody is asked, so what was meant stands beside it in a setting of
ours, which the server carries without a meaning.
"""

from __future__ import annotations

from twinstar.model.engine import Names

NAMES_SETTING = "twinstar.names"
"""``epoch required voter,voter``"""
UPSTREAM_SETTING = "twinstar.upstream"
"""``member@epoch`` of the server that ``primary_conninfo`` points at, empty or missing when detached."""


def tagged(member: str, epoch: int) -> str:
    """The ``application_name`` of a member that is attached for an epoch."""
    return f"{member}@{epoch}"


def untagged(name: str) -> tuple[str, int] | None:
    """The member and epoch in what `tagged` wrote, None for any other name."""
    member, _, epoch = name.rpartition("@")
    return (member, int(epoch)) if member and epoch.isdecimal() else None


def standby_names(names: Names) -> str:
    """``ANY k ("m@e", …)``, or nothing when nobody need confirm. Never ``*``."""
    if names.required == 0:
        return ""
    voters = ", ".join(f'"{tagged(voter, names.epoch)}"' for voter in sorted(names.voters))
    return f"ANY {names.required} ({voters})"


def names_settings(names: Names) -> dict[str, str | None]:
    """The settings that make the server ask these."""
    meaning = f"{names.epoch} {names.required} {','.join(sorted(names.voters))}"
    return {"synchronous_standby_names": standby_names(names), NAMES_SETTING: meaning.strip()}


def parse_names(meaning: str) -> Names | None:
    """What `names_settings` said, None when it is something else."""
    epoch, _, rest = meaning.partition(" ")
    required, _, voters = rest.partition(" ")
    if not (epoch.isdecimal() and required.isdecimal()):
        return None
    return Names(int(epoch), frozenset(filter(None, voters.split(","))), int(required))
