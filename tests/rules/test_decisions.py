"""What a member does, case by case; each test states only what differs from a cluster at rest (`views`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.rules.views import (
    ABSENT,
    EPOCH,
    HERE,
    LEADING,
    LIVING,
    LONG,
    PRIMARY,
    REGISTER,
    SEALED,
    SETTINGS,
    SILENT,
    STANDBY,
    STOPPED,
    attachment,
    electing,
    seals,
    view,
)
from twinstar.model.effects import (
    Adopt,
    Bootstrap,
    Enforce,
    Follow,
    HandOver,
    Kill,
    Plan,
    PromoteFor,
    Reason,
    Rebuild,
    Retag,
    SealFor,
    Start,
    State,
    Stop,
)
from twinstar.model.engine import EngineStatus, Names, Primary, Upstream
from twinstar.model.position import Position
from twinstar.model.register import Durability, Phase, Register, Seal, Switchover
from twinstar.model.view import Peer, Settings, View
from twinstar.model.wire import EngineWord
from twinstar.rules.active_passive import decide
from twinstar.rules.active_passive.local import can_seal

DEAD = replace(LEADING, engine=EngineWord.DEAD, not_leading_ms=50)


def change_of(plan: Plan) -> Register:
    assert plan.change is not None, plan
    return plan.change.register


# -- at rest -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("me", ["n1", "n2", "n3"])
def test_a_cluster_at_rest_is_left_alone(me: str) -> None:
    plan = decide(view(me))
    assert (plan.engine, plan.change, plan.soon) == (None, None, False)
    assert plan.state is (State.RUNNING if me == "n1" else State.STREAMING)


def test_nothing_is_done_before_the_store_has_answered() -> None:
    plan = decide(view(register=None, register_seen=False))
    assert (plan.engine, plan.change, plan.state) == (None, None, State.WAITING)


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refused",
    [
        {"engine": replace(STOPPED, system_identifier="another")},
        {"register": None, "engine": STOPPED},
        {"promise": EPOCH + 1},
        {"engine": replace(STANDBY, position=Position(EPOCH + 1, 5))},
        {"register": electing(), "promise": EPOCH + 2},
    ],
    ids=[
        "another cluster's data",
        "an empty store",
        "a promise ahead",
        "a log ahead",
        "a promise ahead of an election",
    ],
)
def test_what_does_not_belong_together_is_refused(refused: dict[str, Any]) -> None:
    plan = decide(view("n2", **refused))
    assert (plan.engine, plan.change, plan.state) == (None, None, State.REFUSED)
    assert plan.note


def test_another_clusters_database_is_stopped() -> None:
    assert decide(view(engine=replace(STANDBY, system_identifier="another"))).engine == Stop()


def test_a_switchover_may_promise_one_epoch_ahead() -> None:
    assert decide(view("n3", promise=EPOCH + 1, handing_over=True)).state is not State.REFUSED
    assert decide(view("n3", promise=EPOCH + 2, handing_over=True)).state is State.REFUSED


# -- bootstrap ---------------------------------------------------------------------------------------------------------

EMPTY = {m: replace(LIVING, has_data=False) for m in ("n1", "n2", "n3")}
BOOTSTRAPPING = REGISTER.but(
    epoch=0, phase=Phase.BOOTSTRAPPING, copies=frozenset({"n1"}), required=0, system_identifier="", fork=None
)


def test_the_first_member_begins_when_nobody_has_data() -> None:
    begun = change_of(decide(view("n1", register=None, engine=ABSENT, revision=0, peers=EMPTY)))
    assert (begun.phase, begun.leader, begun.epoch) == (Phase.BOOTSTRAPPING, "n1", 0)


@pytest.mark.parametrize("has_data", [True, None])
def test_nothing_is_made_beside_data_or_before_everybody_was_seen(has_data: bool | None) -> None:
    peers = EMPTY | {"n3": replace(LIVING, has_data=has_data)}
    assert decide(view("n1", register=None, engine=ABSENT, peers=peers, up_ms=5_000)).change is None


def test_a_crash_in_between_is_resumed() -> None:
    plan = decide(view("n1", register=BOOTSTRAPPING, engine=replace(PRIMARY, nonce="n1:1"), promise=0))
    assert plan.engine == Bootstrap("n1:1")


def test_what_was_made_leads_epoch_1_alone() -> None:
    made = change_of(decide(view("n1", register=BOOTSTRAPPING, engine=PRIMARY, bootstrapped="77", promise=0)))
    assert (made.epoch, made.phase, made.required) == (1, Phase.LEADING, 0)
    assert made.copies == {"n1"}
    running = replace(PRIMARY, nonce="n1:1", position=Position(1, 9))
    assert decide(view("n1", register=made, engine=running, led=0, promise=0)).engine == Adopt(1)


# -- suspicion ---------------------------------------------------------------------------------------------------------

ACCUSES = replace(LIVING, suspects=True, can_seal=True)


@pytest.mark.parametrize(
    ("other", "moves"),
    [
        (ACCUSES, True),
        (replace(ACCUSES, suspects=False), False),
        (replace(ACCUSES, can_seal=False), False),
        (LIVING, False),
        (SILENT, False),
    ],
    ids=["agrees", "hears the leader", "cannot seal", "has not answered", "is silent itself"],
)
def test_one_members_suspicion_moves_nothing(other: Peer, moves: bool) -> None:
    plan = decide(view("n2", peers={"n1": SILENT, "n3": other}))
    assert (plan.change is not None) == moves
    assert plan.ask_about == "n1"
    assert "n1" in plan.probe
    if moves:
        begun = change_of(plan)
        assert (begun.epoch, begun.phase, begun.leader) == (EPOCH + 1, Phase.ELECTING, "n1")
        assert (begun.copies, begun.required) == (REGISTER.copies, REGISTER.required)


def test_after_many_changes_without_service_a_new_leader_is_let_be_for_a_while() -> None:
    seen = view("n2", peers={"n1": SILENT, "n3": ACCUSES}, epoch_age_ms=900, forbearance_ms=1_000)
    assert decide(seen).change is None
    assert decide(replace(seen, epoch_age_ms=1_000)).change is not None
    assert decide(replace(seen, peers={"n1": DEAD, "n3": SILENT})).change is not None, "the guard's word needs no time"


def test_a_leader_that_does_not_lead_is_accused_after_a_while() -> None:
    idle = replace(LIVING, not_leading_ms=SETTINGS.election_timeout_ms + 1)
    assert change_of(decide(view("n2", peers={"n1": idle, "n3": ACCUSES}))).reason == Reason.NOT_LEADING
    idle = replace(LIVING, not_leading_ms=SETTINGS.election_timeout_ms - 1)
    assert decide(view("n2", peers={"n1": idle, "n3": ACCUSES})).change is None


def test_a_leader_that_says_it_hears_nobody_is_accused_after_a_while() -> None:
    """What it is sent does not arrive: nobody can confirm anything to it, and it is heard all the time."""
    deaf = replace(LEADING, unheard=frozenset({"n2", "n3"}), deaf_ms=SETTINGS.election_timeout_ms + 1)
    assert change_of(decide(view("n2", peers={"n1": deaf, "n3": ACCUSES}))).reason == Reason.DEAF
    for peers in (
        {"n1": replace(deaf, deaf_ms=SETTINGS.election_timeout_ms - 1), "n3": ACCUSES},
        {"n1": replace(deaf, unheard=frozenset({"n2"})), "n3": ACCUSES},
        {"n1": deaf, "n3": replace(ACCUSES, heard=False)},
    ):
        assert decide(view("n2", peers=peers)).change is None
    leased = view("n2", register=LEASED, peers={"n1": deaf, "n3": ACCUSES}, register_age_ms=0)
    assert decide(leased).change is None, "in async nobody has to confirm"


@pytest.mark.parametrize(
    ("word", "moves"),
    [
        (DEAD, True),
        (replace(DEAD, agent_age_ms=5_000, not_leading_ms=0), True),
        (replace(DEAD, not_leading_ms=0), False),
        (replace(DEAD, epoch=EPOCH - 1), False),
        (replace(DEAD, leading=False), False),
        (replace(DEAD, engine=EngineWord.KILLING), False),
    ],
    ids=["dead", "its agent is gone", "its agent is nearer", "of an earlier epoch", "it did not lead", "not dead yet"],
)
def test_the_guards_word_suffices(word: Peer, moves: bool) -> None:
    plan = decide(view("n2", peers={"n1": word, "n3": SILENT}))
    assert (plan.change is not None) == moves
    if moves:
        assert change_of(plan).reason == Reason.DATABASE_DEAD


@pytest.mark.parametrize("hindrance", ["paused", "no copy", "bound to more", "not running"])
def test_who_cannot_seal_starts_no_candidacy(hindrance: str) -> None:
    seen: dict[str, View] = {
        "paused": view("n2", register=REGISTER.but(paused=True), peers={"n1": DEAD}),
        "no copy": view("n2", register=REGISTER.but(copies=frozenset({"n1", "n3"})), peers={"n1": DEAD}),
        "bound to more": view("n2", promise=EPOCH + 2, handing_over=True, peers={"n1": DEAD}),
        "not running": view("n2", engine=STOPPED, peers={"n1": DEAD}),
    }
    assert decide(seen[hindrance]).change is None


def test_a_member_nobody_ever_heard_is_a_mistake_until_the_grace_is_over() -> None:
    unheard = replace(SILENT, ever_heard=False)
    peers = {"n1": unheard, "n3": ACCUSES}
    assert decide(view("n2", peers=peers, up_ms=SETTINGS.start_grace_ms - 1)).change is None
    assert decide(view("n2", peers=peers, up_ms=SETTINGS.start_grace_ms)).change is not None
    alone = {"n1": unheard, "n3": replace(ACCUSES, heard=False)}
    assert decide(view("n2", peers=alone)).change is None, "it is likelier that this member is cut off"


def test_the_agent_of_a_dead_database_asks_for_an_election_itself() -> None:
    plan = decide(view("n1", engine=STOPPED, died=True, primary=None))
    assert change_of(plan).reason == Reason.DATABASE_DEAD
    alone = {"n2": SILENT, "n3": SILENT}
    assert decide(view("n1", engine=STOPPED, died=True, primary=None, peers=alone)).engine == Start()


# -- elections ---------------------------------------------------------------------------------------------------------


def test_a_standby_seals_and_then_waits_for_the_choice() -> None:
    assert decide(view("n2", register=electing())).engine == SealFor(EPOCH + 1)
    sealed = view("n2", register=electing(), engine=SEALED, promise=EPOCH + 1, seals=seals(n2=900))
    plan = decide(sealed)
    assert (plan.engine, plan.state) == (None, State.SEALED)


@pytest.mark.parametrize(
    ("me", "age_ms", "names"), [("n2", 0, True), ("n3", 0, False), ("n3", SETTINGS.naming_delay_ms, True)]
)
def test_the_author_names_at_once_and_the_others_a_little_later(me: str, age_ms: float, names: bool) -> None:
    seen = view(
        me, register=electing(), engine=SEALED, promise=EPOCH + 1, seals=seals(n2=900, n3=950), seals_age_ms=age_ms,
        epoch_age_ms=60,
    )  # fmt: skip
    plan = decide(seen)
    assert (plan.change is not None) == names
    if names:
        named = change_of(plan)
        assert (named.phase, named.leader, named.epoch) == (Phase.LEADING, "n3", EPOCH + 1)
        assert named.fork == Position(EPOCH, 950)
        assert (named.copies, named.required) == (REGISTER.copies, REGISTER.required)


@pytest.mark.parametrize(
    ("lsn_of", "age_ms", "leader"),
    [
        ({"n2": 900, "n3": 900}, 0, "n2"),
        ({"n2": 900, "n3": 950}, 0, None),
        ({"n2": 900, "n3": 950}, 500, "n3"),
        ({"n1": 800, "n2": 900, "n3": 950}, 0, "n2"),
    ],
    ids=["among equals", "others may yet seal", "it lacks something", "ahead of enough others"],
)
def test_who_was_asked_for_is_named_if_nothing_is_lost_by_it(
    lsn_of: dict[str, int], age_ms: float, leader: str | None
) -> None:
    register = electing(Reason.OPERATOR.value, switchover=Switchover("n2", 0), leader="n0")
    seen = view(
        "n2", register=register.but(copies=frozenset({"n1", "n2", "n3"})), engine=SEALED, promise=EPOCH + 1,
        seals=seals(**lsn_of), epoch_age_ms=age_ms,
    )  # fmt: skip
    plan = decide(seen)
    assert (plan.change.register.leader if plan.change else None) == leader
    if plan.change:
        assert plan.change.register.switchover is None


def test_an_election_that_does_not_end_is_begun_again() -> None:
    seen = view("n2", register=electing(), engine=SEALED, promise=EPOCH + 1, seals=seals(n2=900), back_off_ms=100)
    assert decide(replace(seen, epoch_age_ms=1_100)).change is None
    again = change_of(decide(replace(seen, epoch_age_ms=1_101)))
    assert (again.epoch, again.phase, again.leader) == (EPOCH + 2, Phase.ELECTING, "n1")
    alone = replace(seen, peers={"n1": SILENT, "n3": SILENT})
    assert decide(alone).change is None, "too few are there: a further epoch would change nothing"


def test_an_election_asked_for_by_hand_stays_so_when_it_is_begun_again() -> None:
    """Otherwise it would end in nothing while the cluster is paused, and the old leader might take it back."""
    register = electing(Reason.OPERATOR.value, paused=True)
    seen = view("n2", register=register, engine=SEALED, promise=EPOCH + 1, seals=seals(n2=900), epoch_age_ms=2_000)
    assert change_of(decide(seen)).reason == Reason.OPERATOR


def test_while_paused_nobody_is_named_unless_asked_for_by_hand() -> None:
    here: dict[str, Any] = {"engine": SEALED, "promise": EPOCH + 1, "seals": seals(n2=900, n3=900)}
    assert decide(view("n2", register=electing(paused=True), **here)).change is None
    assert decide(view("n2", register=electing(Reason.OPERATOR.value, paused=True), **here)).change is not None


def test_a_member_bound_to_more_does_not_seal_for_less() -> None:
    seen = view("n2", register=electing(), promise=EPOCH + 2, handing_over=True)
    assert decide(seen).engine is None


def test_what_is_no_copy_stays_out_of_elections() -> None:
    seen = view("n3", register=electing(copies=frozenset({"n1", "n2"})))
    assert (decide(seen).engine, decide(seen).change) == (None, None)


def test_the_last_leader_starts_late_unless_it_is_needed() -> None:
    """The others get a chance first; where they are too few, it is the way out."""
    register = electing(Reason.DATABASE_DEAD.value)
    early: dict[str, Any] = {"engine": STOPPED, "led": 0, "primary": None, "epoch_age_ms": 50}
    assert decide(view("n1", register=register, **early)).engine is None
    assert decide(view("n1", register=register, **early, peers={"n2": SILENT})).engine == Start()
    assert decide(view("n1", register=register, **early | {"epoch_age_ms": 500})).engine == Start()


# -- the incumbent -----------------------------------------------------------------------------------------------------

HEARING = {"n2": replace(LIVING, hears_me=True), "n3": LIVING}


def incumbent(reason: str = "suspected", **but: Any) -> View:
    return view("n1", register=electing(reason), led=EPOCH, epoch_age_ms=20, **{"peers": HEARING} | but)


def test_a_false_alarm_is_taken_back() -> None:
    back = change_of(decide(incumbent()))
    assert (back.epoch, back.phase, back.leader) == (EPOCH + 2, Phase.LEADING, "n1")
    assert (back.reason, back.fork) == (Reason.RETAKEN, None)


@pytest.mark.parametrize(
    "but",
    [
        {"peers": {"n2": LIVING, "n3": LIVING}, "epoch_age_ms": 200},
        {"retake_age_ms": SETTINGS.election_timeout_ms - 1},
        {"reason": Reason.OPERATOR.value},
        {"reason": Reason.DATABASE_DEAD.value},
        {"led": 0},
    ],
    ids=["no voter hears it", "it has just done so", "asked for by hand", "its guard spoke", "nobody made it leader"],
)
def test_otherwise_it_stops_and_seals(but: dict[str, Any]) -> None:
    seen = incumbent(but.pop("reason", "suspected"))
    assert decide(replace(seen, **but)).engine == Stop()


def test_it_asks_the_voters_for_a_moment_before_it_stops() -> None:
    plan = decide(incumbent(peers={"n2": LIVING, "n3": LIVING}))
    assert (plan.engine, plan.probe) == (None, frozenset({"n2", "n3"}))


def test_after_taking_it_back_it_leads_under_the_new_tag() -> None:
    register = REGISTER.but(epoch=EPOCH + 2, reason=Reason.RETAKEN.value, fork=None)
    plan = decide(view("n1", register=register, led=EPOCH))
    assert plan.engine == Retag(Names(EPOCH + 2, frozenset({"n2", "n3"}), 1))


# -- becoming the leader -----------------------------------------------------------------------------------------------

NAMED = REGISTER.but(epoch=EPOCH + 1, leader="n2", fork=HERE)


def named(**but: Any) -> View:
    """n2 has sealed for the election and was named."""
    sealed = Seal("n2", EPOCH + 1, HERE)
    base: dict[str, Any] = {"engine": SEALED, "promise": EPOCH + 1, "led": 0, "sealed": sealed, "primary": None}
    return view("n2", register=NAMED, **base | but)


def test_who_is_named_and_sealed_is_promoted_with_the_names_of_the_register() -> None:
    assert decide(named()).engine == PromoteFor(EPOCH + 1, Names(EPOCH + 1, frozenset({"n1", "n3"}), 1))


def test_nobody_is_promoted_without_a_seal_in_this_agents_sight() -> None:
    assert decide(named(sealed=None)).engine == SealFor(EPOCH + 1, publish=False)
    stale = Seal("n2", EPOCH, HERE)
    assert decide(named(sealed=stale)).engine == SealFor(EPOCH + 1, publish=False)


@pytest.mark.parametrize(
    "but", [{"promise": EPOCH + 2, "handing_over": True}, {"engine": replace(SEALED, position=Position(EPOCH + 1, 9))}]
)
def test_nobody_is_promoted_for_less_than_it_is_bound_to(but: dict[str, Any]) -> None:
    for sealed in (None, Seal("n2", EPOCH + 1, HERE), Seal("n2", EPOCH + 2, HERE)):
        assert not isinstance(decide(named(sealed=sealed, **but)).engine, PromoteFor)


def test_a_database_runs_as_a_primary_only_if_it_was_made_leader_of_this_epoch() -> None:
    assert decide(view("n1", led=0)).engine == Stop()
    assert decide(view("n1", led=EPOCH - 1)).engine == Stop()
    assert decide(view("n2", engine=PRIMARY)).engine == Stop()
    assert decide(view("n2", engine=PRIMARY, led=EPOCH)).engine == Stop()


def restarted(register: Register = REGISTER, **but: Any) -> View:
    base: dict[str, Any] = {
        "engine": replace(SEALED, position=HERE), "led": 0, "primary": None, "sealed": Seal("n1", EPOCH, HERE)
    }  # fmt: skip
    return view("n1", register=register, **base | but)


def test_a_leader_that_restarted_takes_a_fresh_epoch() -> None:
    again = change_of(decide(restarted()))
    assert (again.epoch, again.phase, again.leader) == (EPOCH + 1, Phase.LEADING, "n1")
    assert (again.fork, again.reason) == (HERE, Reason.RESTARTED)


def test_so_does_one_whose_promotion_was_cut_off() -> None:
    assert change_of(decide(named(spent=EPOCH + 1))).epoch == EPOCH + 2
    assert decide(named(spent=EPOCH)).change is None


def test_so_does_one_that_had_taken_its_epoch_back() -> None:
    """Its log is of an earlier timeline, since that epoch began without a promotion: it must not begin twice."""
    retaken = REGISTER.but(fork=None, reason=Reason.VOTERS.value)
    earlier = Position(EPOCH - 2, 900)
    seen = restarted(retaken, engine=replace(SEALED, position=earlier), sealed=Seal("n1", EPOCH, earlier))
    plan = decide(seen)
    assert not isinstance(plan.engine, PromoteFor)
    assert change_of(plan).epoch == EPOCH + 1


def test_a_stopped_leader_is_started_as_a_standby() -> None:
    assert decide(view("n1", engine=STOPPED, primary=None)).engine == Start()
    remains = replace(STOPPED, status=EngineStatus.REMAINS)
    assert decide(view("n1", engine=remains, primary=None)).engine == Kill()


def test_while_paused_a_dead_database_stays_dead() -> None:
    paused = REGISTER.but(paused=True)
    for me in ("n1", "n2"):
        plan = decide(view(me, register=paused, engine=STOPPED, died=True, primary=None))
        assert (plan.engine, plan.change) == (None, None)


def test_while_paused_the_leader_of_a_switchover_by_hand_comes_back() -> None:
    paused = ASKED.but(paused=True)
    back = view(
        "n1", register=paused, engine=HANDED, primary=None, promise=EPOCH + 1, handing_over=True,
        wall_ms=1_700_000_005_000,
    )  # fmt: skip
    assert decide(back).engine == Start()
    taken = paused.but(epoch=EPOCH + 1, leader="n2", switchover=None)
    assert decide(replace(back, register=taken)).engine == Start()


def test_while_paused_nothing_is_rewound_and_no_election_starts_a_database() -> None:
    effect = decide(view("n2", engine=SEALED, register=REGISTER.but(paused=True))).engine
    assert isinstance(effect, Follow)
    assert effect.as_it_is
    assert decide(view("n2", register=electing(paused=True), engine=STOPPED)).engine is None
    by_hand = electing(Reason.OPERATOR.value, paused=True)
    assert decide(view("n2", register=by_hand, engine=STOPPED)).engine == Start()


@pytest.mark.parametrize("me", ["n1", "n2"])
def test_a_primary_that_was_started_by_hand_is_stopped_at_the_end_of_a_pause(me: str) -> None:
    by_hand = view(me, engine=PRIMARY, led=0, primary=None)
    assert decide(replace(by_hand, register=REGISTER.but(paused=True))).engine is None
    assert decide(by_hand).engine == Stop()
    if me == "n2":
        former = replace(by_hand, register=REGISTER.but(paused=True), led=EPOCH - 1)
        assert decide(former).engine == Stop(), "a former leader of ours is no such thing"


# -- leading -----------------------------------------------------------------------------------------------------------


def test_an_epoch_opens_when_enough_voters_hold_its_beginning() -> None:
    seen = view("n1", opened=0)
    assert decide(seen).opened == EPOCH
    behind = Primary(HERE, (attachment("n2", flush_lsn=seen.opening_lsn - 1),))
    assert decide(replace(seen, primary=behind)).opened == 0
    for but in ({"epoch": EPOCH - 1}, {"genuine": False}):
        assert decide(replace(seen, primary=Primary(HERE, (attachment("n2", **but),)))).opened == 0
    assert decide(replace(seen, opening_lsn=0)).opened == 0, "nothing was read since the epoch began"


def test_a_voter_that_is_gone_for_long_is_dropped_engine_first() -> None:
    without: dict[str, Any] = {
        "primary": Primary(HERE, (attachment("n2"),)), "absent_ms": {"n3": SETTINGS.voter_removal_ms}
    }  # fmt: skip
    assert decide(view("n1", **without)).engine == Enforce(Names(EPOCH, frozenset({"n2"}), 1))
    enforced = view("n1", **without, enforced=Names(EPOCH, frozenset({"n2"}), 1))
    assert change_of(decide(enforced)).copies == {"n1", "n2"}
    unflushed = replace(enforced, primary=Primary(HERE, (attachment("n2", flush_lsn=1),)))
    assert decide(unflushed).change is None, "what was acknowledged before must be there first"


@pytest.mark.parametrize(
    "but", [{"changing": True}, {"absent_ms": {"n3": 9_999}}, {"register": REGISTER.but(paused=True)}]
)
def test_otherwise_nobody_is_dropped(but: dict[str, Any]) -> None:
    gone: dict[str, Any] = {"primary": Primary(HERE, (attachment("n2"),)), "absent_ms": {"n3": LONG}}
    plan = decide(view("n1", **gone | but))
    assert (plan.engine, plan.change) == (None, None)


def test_an_agent_that_is_new_moves_the_register_before_it_changes_anything() -> None:
    plan = decide(view("n1", settled=False, enforced=None))
    assert plan.change is not None
    assert (plan.change.reason, plan.change.register, plan.engine) == (Reason.SETTLED, REGISTER, None)
    assert decide(view("n1", enforced=None)).engine == Enforce(Names(EPOCH, frozenset({"n2", "n3"}), 1))


# -- following ---------------------------------------------------------------------------------------------------------


def test_a_standby_follows_the_leader_of_the_epoch() -> None:
    for engine in (SEALED, replace(STANDBY, upstream=("n1", EPOCH - 1)), replace(STANDBY, upstream=("n3", EPOCH))):
        effect = decide(view("n2", engine=engine)).engine
        assert isinstance(effect, Follow)
        assert (effect.upstream.member, effect.upstream.epoch) == ("n1", EPOCH)


@pytest.mark.parametrize(
    ("status", "careful", "state"),
    [
        (EngineStatus.STANDBY, False, State.CATCHING_UP),
        (EngineStatus.STOPPED, False, State.REWINDING),
        (EngineStatus.INCOMPLETE, False, State.REWINDING),
        (EngineStatus.STOPPED, True, State.REBUILDING),
    ],
)
def test_what_a_copy_is_doing_that_joins_is_told_apart(status: EngineStatus, careful: bool, state: State) -> None:
    upstream = Upstream("n1", EPOCH, view("n2").addresses["n1"])
    seen = view("n2", engine=replace(SEALED, status=status), running_effect=Follow(upstream, None, careful))
    assert decide(seen).state is state


def test_a_database_that_ended_by_itself_is_said_to_have_crashed() -> None:
    for register in (REGISTER, REGISTER.but(paused=True), LEASED):
        assert decide(view("n1", register=register, engine=STOPPED, died=True, primary=None)).state is State.CRASHED


def test_who_is_bound_to_more_follows_nobody() -> None:
    assert decide(view("n2", engine=SEALED, promise=EPOCH + 1, handing_over=True)).engine is None


def test_an_old_copy_is_destroyed_in_place_only_when_enough_others_hold_the_beginning() -> None:
    """To have promised the epoch is not to hold what its leader has: who sealed for it has promised as well."""
    promised = {"n3": LIVING, "n1": LEADING}
    closed = decide(view("n2", engine=SEALED, peers=promised)).engine
    assert isinstance(closed, Follow)
    assert closed.careful
    opened = decide(view("n2", engine=SEALED, peers=promised | {"n1": replace(LEADING, opened=EPOCH)})).engine
    assert isinstance(opened, Follow)
    assert not opened.careful


def test_a_member_without_data_is_copied_from_a_leader_that_is_heard() -> None:
    assert isinstance(decide(view("n2", engine=ABSENT, promise=0)).engine, Rebuild)
    assert decide(view("n2", engine=ABSENT, promise=0, peers={"n1": SILENT})).engine is None


# -- switchover --------------------------------------------------------------------------------------------------------

ASKED = REGISTER.but(switchover=Switchover("n2", 1_700_000_005_000))
HANDED = replace(STOPPED, shut_down_at=HERE)


LATE: tuple[dict[str, Any], ...] = ({"wall_ms": 1_700_000_005_000}, {"register_age_ms": 10_000})
"""By the wall clock; and by the agent's own, when the wall clock was set back."""


def test_the_leader_hands_over_to_a_successor_that_is_attached() -> None:
    asked = view("n1", register=ASKED, register_age_ms=100)
    assert decide(asked).engine == HandOver("n2", EPOCH)
    away = replace(asked, primary=Primary(HERE, (attachment("n3"),)))
    assert (decide(away).engine, decide(away).change) == (None, None)


@pytest.mark.parametrize("late", LATE)
def test_a_switchover_whose_time_is_over_is_given_up_also_by_an_agent_that_was_killed_in_it(
    late: dict[str, Any],
) -> None:
    """It had promised and not stopped: the successor would be led to hours later, whenever it comes."""
    for but in ({}, {"promise": EPOCH + 1, "handing_over": True}):
        plan = decide(view("n1", register=ASKED, **{"register_age_ms": 100, **late, **but}))
        assert (change_of(plan).switchover, plan.engine) == (None, None)
    handing = view("n1", register=ASKED, running_effect=HandOver("n2", EPOCH), **late)
    assert decide(handing).change is None, "it may have stopped, and be taken over from"


def test_the_successor_holds_the_log_to_its_end_then_seals_then_takes_the_next_epoch() -> None:
    ended = {"n1": Seal("n1", EPOCH + 1, Position(EPOCH, 1_000))}
    short = view("n2", register=ASKED, next_seals=ended)
    assert decide(short).engine is None
    whole = replace(short, engine=replace(STANDBY, position=Position(EPOCH, 1_001)))
    assert decide(whole).engine == SealFor(EPOCH + 1, publish=False)
    sealed = replace(whole, promise=EPOCH + 1, handing_over=True, sealed=Seal("n2", EPOCH + 1, Position(EPOCH, 1_001)))
    taken = change_of(decide(sealed))
    assert (taken.epoch, taken.leader, taken.switchover) == (EPOCH + 1, "n2", None)
    lacking = replace(sealed, sealed=Seal("n2", EPOCH + 1, Position(EPOCH, 1_000)))
    assert decide(lacking).change is None, "the last record of the leader is not here"


def test_a_successor_that_lacks_the_end_of_the_log_watches_the_leader_like_any_other() -> None:
    ended = {"n1": Seal("n1", EPOCH + 1, Position(EPOCH, 1_000))}
    lacking = view("n2", register=ASKED, next_seals=ended, peers={"n1": SILENT, "n3": ACCUSES})
    sealed = Seal("n2", EPOCH + 1, HERE)
    for seen in (lacking, replace(lacking, engine=SEALED, promise=EPOCH + 1, handing_over=True, sealed=sealed)):
        begun = change_of(decide(seen))
        assert (begun.epoch, begun.phase, begun.switchover) == (EPOCH + 1, Phase.ELECTING, None)


def test_a_leader_that_has_stopped_for_a_switchover_is_accused_when_its_time_is_over() -> None:
    stopped = replace(LIVING, engine=EngineWord.STOPPED, not_leading_ms=5_000)
    for me in ("n2", "n3"):
        seen = view(me, register=ASKED, peers={"n1": stopped, "n2": ACCUSES, "n3": ACCUSES}, register_age_ms=10_999)
        assert decide(seen).change is None
        assert change_of(decide(replace(seen, register_age_ms=11_000))).reason == Reason.NOT_LEADING


@pytest.mark.parametrize("late", LATE)
def test_after_the_deadline_the_leader_goes_on_under_a_fresh_epoch(late: dict[str, Any]) -> None:
    base: dict[str, Any] = {"engine": HANDED, "primary": None, "promise": EPOCH + 1, "handing_over": True}
    published = {"n1": Seal("n1", EPOCH + 1, HERE)}
    waiting = view("n1", register=ASKED, register_age_ms=100, **base, next_seals=published)
    assert (decide(waiting).engine, decide(waiting).change) == (None, None)
    assert decide(replace(waiting, **late)).engine == Start()
    back = replace(waiting, engine=SEALED, sealed=Seal("n1", EPOCH + 1, HERE))
    assert change_of(decide(back)).epoch == EPOCH + 1


# -- durability async --------------------------------------------------------------------------------------------------

LEASES = replace(SETTINGS, durability=Durability.ASYNC, required=0, lease_ms=3_000)
LEASED = REGISTER.but(durability=Durability.ASYNC, lease_ms=2_000, position=Position(EPOCH, 900))


def test_a_lease_is_renewed_in_time_and_ends_the_leader() -> None:
    def held(left_ms: float, age_ms: float, settings: Settings = LEASES) -> View:
        return view("n1", register=LEASED, lease_left_ms=left_ms, renewed_age_ms=age_ms, settings=settings)

    assert decide(held(1_900, 100)).change is None
    renewed = change_of(decide(held(1_500, 500)))
    assert (renewed.renewals, renewed.position) == (1, HERE)
    assert decide(held(1_500, 500, replace(LEASES, renewal_ms=600))).change is None, "as configured"
    assert decide(held(200, 1_800)).engine == Kill()


def test_nobody_is_promoted_without_a_lease_and_it_is_kept_on_the_way() -> None:
    taken = NAMED.but(durability=Durability.ASYNC, lease_ms=2_000)
    seen = replace(named(renewed_age_ms=1_000), register=taken)
    promote = PromoteFor(EPOCH + 1, Names(EPOCH + 1, frozenset(), 0))
    plan = decide(replace(seen, lease_left_ms=1_000))
    assert plan.engine == promote
    assert change_of(plan).renewals == 1
    late = decide(replace(seen, lease_left_ms=200))
    assert (late.engine, change_of(late).renewals) == (None, 1)
    assert decide(replace(seen, lease_left_ms=200, changing=True)).change is None
    begun = decide(replace(seen, lease_left_ms=200, running_effect=promote))
    assert begun.engine == promote, "it goes on in the database whatever is wanted; the guard knows of it"


@pytest.mark.parametrize(("age_ms", "lag", "takes"), [(2_169, 0, False), (2_170, 0, True), (9_999, 1 << 21, False)])
def test_a_lease_that_ran_out_is_taken_by_one_that_is_near_enough(age_ms: float, lag: int, takes: bool) -> None:
    register = LEASED.but(position=Position(EPOCH, HERE.lsn + lag))
    plan = decide(view("n2", register=register, register_age_ms=age_ms, peers={"n1": SILENT}))
    assert (plan.change is not None) == takes


def test_a_leader_without_a_guard_ends_since_nobody_would_end_it_in_time() -> None:
    assert decide(view("n1", register=LEASED, guard_silent_ms=2_001)).engine == Kill()
    assert decide(view("n1", guard_silent_ms=LONG)).engine is None, "in quorum the seal is the fence"


@pytest.mark.parametrize(
    ("reason", "age_ms", "takes"),
    [
        (Reason.GIVEN_UP, 0, True),
        (Reason.OPERATOR, 2_169, False),
        (Reason.OPERATOR, 2_170, True),
    ],
)
def test_an_election_by_hand_waits_for_the_lease_of_a_leader_that_may_still_lead(
    reason: Reason, age_ms: float, takes: bool
) -> None:
    register = LEASED.but(phase=Phase.ELECTING, epoch=EPOCH + 1, reason=reason.value)
    assert (decide(view("n2", register=register, epoch_age_ms=age_ms)).change is not None) == takes


NOBODY = Names(EPOCH, frozenset(), 0)
BOTH = Names(EPOCH, frozenset({"n2", "n3"}), 1)


def test_from_quorum_to_async_the_register_goes_first_and_the_lease_begins_with_it() -> None:
    plan = decide(view("n1", settings=LEASES))
    changed = change_of(plan)
    assert plan.engine is None
    assert (changed.durability, changed.required, changed.lease_ms) == (Durability.ASYNC, 0, 3_000)
    assert (changed.epoch, changed.copies, changed.position) == (EPOCH, REGISTER.copies, HERE)
    in_doubt = decide(view("n1", settings=LEASES, changing=True))
    assert (in_doubt.engine, in_doubt.change) == (None, None)
    known = view("n1", settings=LEASES, register=changed, lease_left_ms=3_000)
    assert decide(known).engine == Enforce(NOBODY)


@pytest.mark.parametrize(
    "but",
    [
        {"register": REGISTER.but(paused=True)},
        {"register": REGISTER.but(switchover=Switchover("n2", 1_700_000_005_000))},
        {"opened": 0, "opening_lsn": 0},
    ],
)
def test_the_durability_is_changed_by_an_open_leader_that_does_nothing_else(but: dict[str, Any]) -> None:
    change = decide(view("n1", settings=LEASES, **but)).change
    assert change is None or change.register.durability is Durability.QUORUM


def test_from_async_to_quorum_the_engine_goes_first_and_the_lease_goes_on() -> None:
    register = LEASED.but(required=0)
    before = view("n1", register=register, enforced=NOBODY)
    assert decide(before).engine == Enforce(BOTH)
    assert decide(before).change is None
    assert decide(replace(before, changing=True)).engine is None
    set_ = replace(before, enforced=BOTH)
    assert change_of(decide(replace(set_, renewed_age_ms=1_000))).durability is Durability.ASYNC
    unflushed = Primary(HERE, tuple(attachment(m, flush_lsn=set_.enforced_lsn - 1) for m in ("n2", "n3")))
    assert decide(replace(set_, primary=unflushed)).change is None, "what was acknowledged before must be there first"
    changed = change_of(decide(set_))
    assert (changed.durability, changed.required, changed.lease_ms) == (Durability.QUORUM, 1, 0)
    assert changed.copies == REGISTER.copies


def test_to_quorum_needs_enough_who_confirm() -> None:
    alone = view("n1", register=LEASED.but(required=0), enforced=NOBODY, primary=Primary(HERE, ()))
    assert (decide(alone).engine, decide(alone).change) == (None, None)
    gone = replace(alone, enforced=BOTH, absent_ms={"n2": LONG, "n3": LONG})
    assert decide(gone).engine == Enforce(NOBODY), "commits do not wait for whom nobody counts on"
    degrading = replace(alone, settings=replace(SETTINGS, policy="degrade"))
    changed = change_of(decide(degrading))
    assert (changed.durability, changed.required, changed.copies) == (Durability.QUORUM, 0, frozenset({"n1"}))


def test_a_leader_that_stopped_for_an_election_by_hand_says_so() -> None:
    register = LEASED.but(phase=Phase.ELECTING, epoch=EPOCH + 1, reason=Reason.OPERATOR.value)
    said = change_of(decide(view("n1", register=register, engine=STOPPED, led=0, primary=None)))
    assert (said.reason, said.phase, said.epoch) == (Reason.GIVEN_UP, Phase.ELECTING, EPOCH + 1)
    remains = replace(STOPPED, status=EngineStatus.REMAINS)
    assert decide(view("n1", register=register, engine=remains, led=0, primary=None)).change is None


def test_under_a_lease_who_was_asked_for_goes_first() -> None:
    wanted = Switchover("n2", 0)
    register = LEASED.but(phase=Phase.ELECTING, epoch=EPOCH + 1, reason=Reason.OPERATOR.value, switchover=wanted)
    peers = {m: replace(LIVING, position=str(Position(EPOCH, HERE.lsn + 1))) for m in ("n1", "n2", "n3")}
    assert decide(view("n2", register=register, epoch_age_ms=2_170, peers=peers)).change is not None
    assert decide(view("n3", register=register, epoch_age_ms=2_500, peers=peers)).change is None


def test_the_last_leader_takes_what_nobody_else_can() -> None:
    register = LEASED.but(phase=Phase.ELECTING, epoch=EPOCH + 1, reason=Reason.GIVEN_UP.value)
    back = view("n1", register=register, engine=SEALED, led=0, primary=None)
    assert decide(replace(back, epoch_age_ms=999)).change is None
    assert change_of(decide(replace(back, epoch_age_ms=1_000))).leader == "n1"
    far = replace(SEALED, position=Position(EPOCH - 1, 1))
    assert decide(view("n2", register=register, engine=far)).change is None


def test_the_most_advanced_goes_first() -> None:
    ahead = replace(LIVING, position=str(Position(EPOCH, HERE.lsn + 1)))
    seen = view("n2", register=LEASED, register_age_ms=2_200, peers={"n1": SILENT, "n3": ahead})
    assert decide(seen).change is None
    assert decide(replace(seen, register_age_ms=2_400)).change is not None


def test_a_successor_takes_the_lease_of_a_leader_that_died_in_a_switchover() -> None:
    register = LEASED.but(switchover=Switchover("n2", 1_700_000_005_000))
    seen = view(
        "n2", register=register, register_age_ms=2_200, peers={"n1": SILENT}, engine=SEALED, promise=EPOCH + 1,
        handing_over=True, next_seals={"n1": Seal("n1", EPOCH + 1, HERE)}, sealed=Seal("n2", EPOCH + 1, HERE),
    )  # fmt: skip
    taken = change_of(decide(seen))
    assert (taken.leader, taken.epoch, taken.switchover) == ("n2", EPOCH + 1, None)


def test_can_seal() -> None:
    assert can_seal(view("n2"), REGISTER)
    assert can_seal(view("n2", promise=EPOCH + 1, handing_over=True), REGISTER)
    assert not can_seal(view("n2", promise=EPOCH + 2), REGISTER)
    assert not can_seal(view("n2", engine=STOPPED), REGISTER)


# -- witnesses ---------------------------------------------------------------------------------------------------------

TWO = REGISTER.but(copies=frozenset({"n1", "n2"}))
WITNESSED = replace(SETTINGS, members=("n1", "n2"), witnesses=("w1",))
HEARS = Peer(heard=True, ever_heard=True, agent_age_ms=20)
AGREES = replace(HEARS, suspects=True)


@pytest.mark.parametrize(
    ("witness", "moves"),
    [
        (HEARS, False),
        (AGREES, True),
        (Peer(silent=True, ever_heard=True), True),
        (replace(HEARS, agent_age_ms=SETTINGS.election_timeout_ms + 1), True),
    ],
    ids=["hears the leader, or has not answered", "agrees", "is silent itself", "has an agent that hangs"],
)
def test_with_two_copies_a_witness_tells_a_death_from_a_broken_link(witness: Peer, moves: bool) -> None:
    seen = view("n2", register=TWO, settings=WITNESSED, peers={"n1": SILENT, "w1": witness})
    plan = decide(seen)
    assert (plan.change is not None) == moves
    assert plan.ask_about == "n1"
    if moves:
        assert change_of(plan).copies == TWO.copies, "a witness is no copy"


def test_a_witness_holds_an_accusation_back_for_a_while_only() -> None:
    """The leader may hear the witness, and not the store: then nobody else could ever serve."""
    long_ms = 2 * SETTINGS.voter_removal_ms + 5 * SETTINGS.election_timeout_ms
    seen = view(
        "n2", register=TWO, settings=WITNESSED, peers={"n1": replace(SILENT, silent_for_ms=long_ms), "w1": HEARS}
    )
    assert decide(seen).change is not None
    assert decide(replace(seen, epoch_age_ms=long_ms - 1)).change is None, "who leads anew has its time again"


def test_a_witness_stands_in_nobodys_way_who_could_serve() -> None:
    """Two of three voters confirm to each other what the leader, cut off from both, cannot have confirmed."""
    settings = replace(SETTINGS, witnesses=("w1",))
    assert decide(view("n2", settings=settings, peers={"n1": SILENT, "n3": ACCUSES, "w1": HEARS})).change is not None


def test_a_witness_says_nothing_against_a_guards_word() -> None:
    seen = view("n2", register=TWO, settings=WITNESSED, peers={"n1": DEAD, "w1": HEARS})
    assert change_of(decide(seen)).reason == Reason.DATABASE_DEAD


@pytest.mark.parametrize("there", [1, 2, 3])
def test_of_several_witnesses_most_must_hear_the_leader(there: int) -> None:
    names = ("w1", "w2", "w3")
    words = {name: HEARS if index < there else AGREES for index, name in enumerate(names)}
    settings = replace(WITNESSED, witnesses=names)
    plan = decide(view("n2", register=TWO, settings=settings, peers={"n1": SILENT, **words}))
    assert (plan.change is None) == (there >= 2)
