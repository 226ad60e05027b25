"""Two servers tell of one history, each at its own pace: what the consumer hears is that history, with gaps."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from twinstar.store.base import Changed, Versioned
from twinstar.store.zookeeper.story import Story
from twinstar.store.zookeeper.znodes import Gone, Listing

KEYS = ("a", "b")
HISTORIES = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(["set", "delete"])), min_size=1, max_size=12)
PACES = st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from(["apply", "ask", "list"])), max_size=60)


@dataclass
class Model:
    """A server that has carried out a part of the history, and events that were not asked about yet."""

    history: list[tuple[str, str]]
    applied: int = 0
    standing: dict[str, Versioned] = field(default_factory=dict)
    below: int = 0
    events: list[str] = field(default_factory=list)

    def apply(self) -> None:
        if self.applied == len(self.history):
            return
        key, what = self.history[self.applied]
        self.applied += 1
        if what == "delete" and key not in self.standing:
            return
        self.events.append(key)
        if what == "delete" or key not in self.standing:
            self.below = self.applied
        if what == "delete":
            del self.standing[key]
        else:
            self.standing[key] = Versioned(key, b"", self.applied)

    def ask(self) -> list[Versioned | Gone]:
        if not self.events:
            return []
        key = self.events.pop(0)
        return [self.standing.get(key) or Gone(key, self.below)]

    def listing(self) -> Listing:
        return Listing(list(self.standing.values()), self.below)


def past_of(history: list[tuple[str, str]], key: str) -> list[int]:
    """What a key was at, one after the other: its revision, or 0 when it was not there."""
    found = [0]
    for number, (changed, what) in enumerate(history, 1):
        if changed == key and (what == "set" or found[-1]):
            found.append(number if what == "set" else 0)
    return found


@settings(max_examples=500)
@given(HISTORIES, PACES)
def test_what_is_told_is_the_history_and_ends_with_what_stands(
    history: list[tuple[str, str]], paces: list[tuple[int, str]]
) -> None:
    servers, story, told = [Model(history), Model(history)], Story(), list[Changed]()
    told += story.restart(servers[0].listing())
    for number, what in [
        *paces,
        *((n, "apply") for n in (0, 1) for _ in history),
        *((n, "ask") for n in (0, 1)),
    ]:
        server = servers[number]
        if what == "apply":
            server.apply()
        elif what == "list":
            told += story.listing(server.listing())
        else:
            told += story.news(server.ask())
    for server in servers:
        while server.events:
            told += story.news(server.ask())
    for key in KEYS:
        heard = [0] + [each.value.revision if each.value else 0 for each in told if each.key == key]
        past = iter(past_of(history, key))
        assert all(revision in past for revision in heard), "heard what is no part of its past, in this order"
        standing = servers[0].standing.get(key)
        assert heard[-1] == (standing.revision if standing else 0)


def test_a_restart_tells_everything_again_also_of_an_ensemble_that_was_restored() -> None:
    story = Story()
    story.restart(Listing([Versioned("a", b"", 5), Versioned("b", b"", 7)], 6))
    assert story.restart(Listing([Versioned("a", b"", 3)], 2)) == [
        Changed("b", None),
        Changed("a", Versioned("a", b"", 3)),
    ]
    assert story.news([Versioned("a", b"", 4)]) == [Changed("a", Versioned("a", b"", 4))]
