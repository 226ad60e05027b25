"""What a store keeper does next: no second store, no second life, whatever it sees."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twinstar.model.address import Address
from twinstar.store.managed.deciding import (
    Add,
    Begin,
    Found,
    Here,
    Listed,
    NoMember,
    Remove,
    Restart,
    Serves,
    SetAside,
    Silent,
    Wait,
    Word,
    next_step,
)
from twinstar.store.managed.settings import KeeperSettings, StoreMember

NAMES = ("n1", "n2", "w1")
MEMBERS = tuple(
    StoreMember(name, Address("::1", 2379 + 2 * i), Address("::1", 2380 + 2 * i)) for i, name in enumerate(NAMES)
)


def settings(name: str) -> KeeperSettings:
    return KeeperSettings("c", name, "/k", "etcd", "/f", 1, 50, "::1", MEMBERS)


def url(name: str) -> str:
    return settings(name).url(settings(name).own.peer)


IDS = st.sampled_from(["1", "2", "3"])
LISTED = st.builds(
    Listed, IDS, st.sampled_from([*NAMES, ""]), st.tuples(st.sampled_from([url(name) for name in NAMES])), st.booleans()
)
WORDS: st.SearchStrategy[Word] = st.one_of(
    st.just(NoMember()),
    st.just(Silent("no answer")),
    st.lists(LISTED, min_size=1, max_size=3).map(lambda members: Serves(tuple(members))),
)
HERE = st.builds(Here, st.booleans(), IDS | st.just(""), IDS | st.just(""))


@given(name=st.sampled_from(NAMES), here=HERE, words=st.tuples(WORDS, WORDS))
def test_each_step_is_one_that_may_be_taken(name: str, here: Here, words: tuple[Word, Word]) -> None:
    others = [each for each in NAMES if each != name]
    step = next_step(settings(name), here, dict(zip(others, words, strict=True)))
    serving = [word for word in words if isinstance(word, Serves)]
    match step:
        case Found():
            assert name == "n1"
            assert not here.has_log
            assert words == (NoMember(), NoMember())
        case Restart() | SetAside():
            assert here.has_log
            assert serving or step == Restart(), "only who serves can say that a life is over"
        case Begin():
            mine = [each for each in serving[0].members if each.name == name or url(name) in each.peer_urls]
            assert not here.has_log
            assert all(each.id == here.joining for each in mine)
        case Add():
            assert not here.has_log
            assert not any(each.learner or each.name == name for each in serving[0].members)
        case Remove(gone):
            assert any(
                each.id == gone and (each.name == name or url(name) in each.peer_urls) for each in serving[0].members
            )
        case Wait():
            assert not here.has_log


def test_who_lost_its_disk_while_joining_is_added_anew() -> None:
    listed = (Listed("1", "n1", (url("n1"),)), Listed("2", "", (url("n2"),), learner=True))
    words: dict[str, Word] = {"n1": Serves(listed), "w1": Silent("off")}
    assert next_step(settings("n2"), Here(has_log=False), words) == Remove("2")
    begun = next_step(settings("n2"), Here(has_log=False, joining="2"), words)
    assert begun == Begin(f"n1={url('n1')},n2={url('n2')}")


def test_an_order_puts_aside_what_is_there_and_founds() -> None:
    words = {"n1": Silent("off"), "w1": Silent("off")}
    assert isinstance(next_step(settings("n2"), Here(has_log=True, found=True), words), SetAside)
    assert next_step(settings("n2"), Here(has_log=False, found=True), words) == Found()
