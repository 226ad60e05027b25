"""Start numbers: who is behind gets ahead, whatever was lost, recorded or played again; and nobody is chased."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstar.model.address import Address
from twinstar.model.starts import Starts
from twinstar.model.wire import LARGEST_NUMBER, Inbox, LaterStart, Part, Probe, Sender

SECRET = b"the cluster's own"
SECOND_MS = 1_000.0
NAMES = ("a", "b", "c")


class Net:
    """Delivers at once to who is at an address; keeps everything that was ever sent."""

    def __init__(self) -> None:
        self.at: dict[Address, Process] = {}
        self.sent: list[tuple[Address, bytes]] = []

    def send(self, to: Address, data: bytes) -> None:
        self.sent.append((to, data))
        if to in self.at:
            self.at[to].hear(data)


class Process:
    """One part of one member: says something to everybody, hears what it is told."""

    def __init__(self, net: Net, member: str, boot: int, disk_is_full: bool = False) -> None:
        self.net, self.member, self._disk_is_full = net, member, disk_is_full
        self.own = Sender("c", SECRET, member, Part.AGENT, boot)
        self._starts = Starts(self.own, Inbox("c", SECRET), self._address_of, net.send, self._keep)
        self.kept = [boot]
        self.now_ms = 0.0
        self.heard: list[tuple[str, int]] = []
        net.at[address(member)] = self

    def _address_of(self, member: str, part: Part) -> Address | None:
        return address(member) if part is Part.AGENT and member in NAMES else None

    def _keep(self, boot: int) -> bool:
        assert self.own.boot < boot, "kept before it is used"
        if not self._disk_is_full:
            self.kept.append(boot)
        return not self._disk_is_full

    def hear(self, data: bytes) -> None:
        envelope = self._starts.open(data, self.now_ms)
        if envelope is not None:
            self.heard.append((envelope.member, envelope.boot))

    def speak(self) -> bytes:
        """To all others; what was said."""
        data = self.own.pack(Probe(1))
        for member in NAMES:
            if member != self.member:
                self.net.send(address(member), data)
        return data

    def is_heard_by(self, other: Process) -> bool:
        before = len(other.heard)
        self.speak()
        return (self.member, self.own.boot) in other.heard[before:]


def address(member: str) -> Address:
    return Address(member, 1)


def wait(*processes: Process) -> None:
    for process in processes:
        process.now_ms += SECOND_MS


def test_who_starts_with_an_earlier_clock_and_nothing_else_is_heard_again() -> None:
    net = Net()
    first, other = Process(net, "a", 2_000), Process(net, "b", 7)
    assert first.is_heard_by(other)
    second = Process(net, "a", 1_000)
    assert not second.is_heard_by(other)
    assert second.is_heard_by(other)
    assert second.own.boot == 2_001 == second.kept[-1]


def test_what_cannot_be_kept_is_not_used() -> None:
    net = Net()
    first, other = Process(net, "a", 2_000), Process(net, "b", 7)
    first.speak()
    second = Process(net, "a", 1_000, disk_is_full=True)
    second.speak()
    assert second.own.boot == 1_000
    assert not second.is_heard_by(other)


def test_two_that_are_behind_for_one_another_meet() -> None:
    """Each has been shown what the other's earlier start once said."""
    net = Net()
    first, other = Process(net, "a", 2_000), Process(net, "b", 4_000)
    of_first, of_other = first.speak(), other.speak()
    first, other = Process(net, "a", 1_000), Process(net, "b", 3_000)
    first.hear(of_other)
    other.hear(of_first)
    first.speak()
    other.speak()
    wait(first, other)
    assert first.is_heard_by(other)
    assert other.is_heard_by(first)


def test_a_replayed_correction_does_nothing_more() -> None:
    net = Net()
    first, other = Process(net, "a", 2_000), Process(net, "b", 7)
    first.speak()
    second = Process(net, "a", 1_000)
    second.speak()
    for to, data in list(net.sent):
        net.send(to, data)
    assert second.own.boot == 2_001
    assert second.is_heard_by(other)


def test_replays_are_answered_once_a_second_and_to_the_member_itself() -> None:
    net = Net()
    recorded = Process(net, "a", 1_000).speak()
    net.at.clear()
    now, other = Process(net, "a", 2_000), Process(net, "b", 7)
    now.speak()
    net.sent.clear()
    for _ in range(100):
        other.hear(recorded)
    assert [to for to, _ in net.sent] == [address("a")]
    wait(other)
    other.hear(recorded)
    assert len(net.sent) == 2
    assert now.own.boot == 2_000


def test_who_is_no_member_is_not_answered() -> None:
    net = Net()
    other = Process(net, "b", 7)
    for boot in (2_000, 1_000):
        other.hear(Sender("c", SECRET, "stranger", Part.AGENT, boot).pack(Probe(1)))
    assert not net.sent


@pytest.mark.parametrize("boot", [LARGEST_NUMBER - 2, LARGEST_NUMBER - 1])
def test_a_number_that_cannot_be_sent_is_not_taken(boot: int) -> None:
    net = Net()
    here = Process(net, "a", 1_000)
    here.hear(Sender("c", SECRET, "b", Part.AGENT, 1).pack(LaterStart("a", Part.AGENT, boot)))
    assert here.own.boot == (1_000 if boot == LARGEST_NUMBER - 1 else LARGEST_NUMBER - 1)
    assert Inbox("c", SECRET).open(here.own.pack(Probe(1))) is not None


@pytest.mark.parametrize("said", [LaterStart("b", Part.AGENT, 9_000), LaterStart("a", Part.GUARD, 9_000)])
def test_what_is_said_to_somebody_else_changes_nothing(said: LaterStart) -> None:
    net = Net()
    here = Process(net, "a", 1_000)
    here.hear(Sender("c", SECRET, "b", Part.AGENT, 1).pack(said))
    assert here.own.boot == 1_000


def test_of_two_living_processes_the_later_start_is_heard() -> None:
    net = Net()
    elder, other = Process(net, "a", 1_000), Process(net, "b", 7)
    elder.speak()
    younger = Process(net, "a", 2_000)
    for _ in range(5):
        younger.speak()
        elder.speak()
        wait(other)
    assert (elder.own.boot, younger.own.boot) == (1_000, 2_000)
    assert younger.is_heard_by(other)
    assert not elder.is_heard_by(other)


@given(st.lists(st.integers(0, 5), max_size=60))
def test_two_living_processes_of_one_name_come_to_rest(order: list[int]) -> None:
    """Each speaks, takes over their address or hears from a receiver that has just started, in any order. When each
    has spoken a few times more, nobody's number changes any more, and the higher one is heard.
    """
    net = Net()
    twins = [Process(net, "a", 1_000), Process(net, "a", 2_000)]
    others = [Process(net, "b", 7), Process(net, "c", 7)]
    for step in order:
        if step < 2:
            twins[step].speak()
        elif step < 4:
            net.at[address("a")] = twins[step - 2]
        else:
            others[step - 4] = Process(net, NAMES[step - 3], 8)
        wait(*others)
    for _ in range(4):
        for twin in twins:
            twin.speak()
        wait(*others)
    numbers = [twin.own.boot for twin in twins]
    for twin in twins * 20:
        twin.speak()
        wait(*others)
    assert [twin.own.boot for twin in twins] == numbers
    assert max(twins, key=lambda twin: twin.own.boot).is_heard_by(others[0])
