"""What nodes call each other's streams: by number, which is one life of one database.

A joining node's database is a physical copy, with its donor's system identifier and its donor's progress in every other
node's log. Because an origin is named by the sender alone, that progress is the newcomer's own from its first moment.
"""

from __future__ import annotations

PUBLICATION = "twinstar"


def slot_name(receiver: int) -> str:
    """The slot, at whoever sends, that keeps what a node has not received; also what the node calls itself there, so
    that ``synchronous_standby_names`` of the sender can name it.
    """
    return f"twinstar_{receiver}"


def origin_name(sender: int) -> str:
    """The replication origin, at whoever receives, that says how far a node's log is applied."""
    return f"twinstar_{sender}"
