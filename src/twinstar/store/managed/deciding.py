"""What a store keeper does next with a member whose etcd does not run: pure, on what it sees.

**What it guarantees.** *One store.* Only the founder begins one, and only when every other keeper has said that it has
no member: whoever is silent may have one. *One life at a time.* Who has a log goes on with it unless the store's list,
read after a linearizable read, no longer has that member; who has none removes what is listed under its name or
address before it adds itself, except the very id that it has written down and not yet begun. *No vote before a log.* It
is added as a learner, so that each step may be the last one without costing the others their majority.

**What it does not.** A disk that was set back to an older state of the *same* life cannot be told from a restart.

Each step is done from scratch and everything is looked at again, so a step that was cut off, or whose answer was lost,
needs no case of its own (the table in `docs/decisions/managed-store.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twinstar.store.managed.settings import KeeperSettings


@dataclass(frozen=True, slots=True)
class Listed:
    """One member in the store's own list. Ids are decimal text, as etcd's JSON has them."""

    id: str
    name: str
    """Empty: it has never run."""
    peer_urls: tuple[str, ...]
    learner: bool = False


# -- what the others say -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoMember:
    """The keeper there waits with an empty folder."""


@dataclass(frozen=True, slots=True)
class Serves:
    """Its member answered a linearizable read, and then had this list."""

    members: tuple[Listed, ...]


@dataclass(frozen=True, slots=True)
class Silent:
    """No such word: it may have anything."""

    why: str


Word = NoMember | Serves | Silent


@dataclass(frozen=True, slots=True)
class Here:
    """What this keeper's folder has."""

    has_log: bool
    member: str = ""
    """The id under which that log is written, as far as it is known."""
    joining: str = ""
    """The id that was added for a member that has no log yet."""
    found: bool = False
    """Somebody has ordered a new store to be begun here (`twinstar store restore`)."""


# -- what to do --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """Begin a store of one member."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start etcd over its log."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Start etcd as a member that was added and has no log. `members` as ``name=url,…``."""

    members: str


@dataclass(frozen=True, slots=True)
class Add:
    """Add this member as a learner, and write its id down."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Take an earlier life of this member out of the list."""

    id: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """The log here is of a life that is over: move it away."""

    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    why: str


Step = Found | Restart | Begin | Add | Remove | SetAside | Wait


def next_step(settings: KeeperSettings, here: Here, words: Mapping[str, Word]) -> Step:
    """`words`: of each other member."""
    serving = next((word for word in words.values() if isinstance(word, Serves)), None)
    if here.found:
        return SetAside("a new store is begun here, by hand") if here.has_log else Found()
    if here.has_log:
        return _over_a_log(settings, here, serving)
    if serving is not None:
        return _join(settings, here, serving.members)
    if not settings.founder:
        return Wait(f"the store is begun by {settings.members[0].name}: {_said(words)}")
    if all(isinstance(word, NoMember) for word in words.values()):
        return Found()
    return Wait(f"a store is begun when all others have said that they have none: {_said(words)}")


def _over_a_log(settings: KeeperSettings, here: Here, serving: Serves | None) -> Step:
    if serving is None or any(_is_own_life(settings, here, each) for each in serving.members):
        return Restart()
    return SetAside(f"member {here.member or settings.name} was removed from the store")


def _is_own_life(settings: KeeperSettings, here: Here, listed: Listed) -> bool:
    return listed.id == here.member if here.member else settings.url(settings.own.peer) in listed.peer_urls


def _join(settings: KeeperSettings, here: Here, members: tuple[Listed, ...]) -> Step:
    url = settings.url(settings.own.peer)
    mine = [each for each in members if each.name == settings.name or url in each.peer_urls]
    begun = [each for each in mine if each.id == here.joining and not each.name]
    earlier = [each for each in mine if each not in begun]
    if earlier:
        return Remove(earlier[0].id)
    if begun:
        return Begin(",".join(f"{_name(settings, each)}={each.peer_urls[0]}" for each in members))
    if joining := [each for each in members if each.learner]:
        return Wait(f"another member is joining ({_name(settings, joining[0])})")
    return Add()


def _name(settings: KeeperSettings, listed: Listed) -> str:
    """etcd wants a name for each, and compares addresses."""
    known = {settings.url(member.peer): member.name for member in settings.members}
    return listed.name or known.get(listed.peer_urls[0], f"member-{listed.id}")


def _said(words: Mapping[str, Word]) -> str:
    """Why each of the others stands in the way."""
    said = {name: "has no member" if isinstance(word, NoMember) else str(word) for name, word in words.items()}
    silent = {name: word.why for name, word in words.items() if isinstance(word, Silent)}
    return "; ".join(f"{name}: {why}" for name, why in {**said, **silent}.items()) or "there are no others"
