"""Views for tests of the rules: a whole cluster of three at rest, of which a test states only what differs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twinstar.model.address import Address
from twinstar.model.engine import Attachment, EngineState, EngineStatus, Names, Primary
from twinstar.model.position import Position
from twinstar.model.register import Durability, Phase, Register, Seal
from twinstar.model.view import Peer, Settings, View
from twinstar.model.wire import EngineWord

MEMBERS = ("n1", "n2", "n3")
EPOCH = 5
HERE = Position(EPOCH, 1000)
"""Where every log ends."""
LONG = 1e9

SETTINGS = Settings(members=MEMBERS, durability=Durability.QUORUM, required=1, policy="block")

REGISTER = Register(
    epoch=EPOCH,
    phase=Phase.LEADING,
    leader="n1",
    copies=frozenset(MEMBERS),
    required=1,
    durability=Durability.QUORUM,
    nonce="n1:1",
    system_identifier="77",
    fork=Position(EPOCH - 1, 500),
    reason="named",
)

LIVING = Peer(
    members=frozenset(MEMBERS), heard=True, ever_heard=True, engine=EngineWord.RUNNING, epoch=EPOCH, agent_age_ms=20
)
"""A standby in good health."""
LEADING = replace(LIVING, leading=True)
SILENT = Peer(silent=True, ever_heard=True, engine=EngineWord.RUNNING, epoch=EPOCH, agent_age_ms=5_000)

STANDBY = EngineState(
    EngineStatus.STANDBY, 100, "100:1", HERE, upstream=("n1", EPOCH), receiving=True, system_identifier="77"
)
SEALED = replace(STANDBY, upstream=None, receiving=False)
PRIMARY = EngineState(EngineStatus.PRIMARY, 100, "100:1", HERE, system_identifier="77")
STOPPED = EngineState(EngineStatus.STOPPED, system_identifier="77")
ABSENT = EngineState(EngineStatus.ABSENT)


def attachment(member: str, **but: Any) -> Attachment:
    return replace(Attachment(member, EPOCH, HERE.lsn, HERE.lsn, streaming=True, genuine=True, pid=7), **but)


def view(me: str = "n2", *, register: Register | None = REGISTER, **but: Any) -> View:
    """What `me` sees of a cluster that n1 leads. `but` replaces fields of the View; `peers` those of a whole one."""
    leads = register is not None and register.leader == me
    voters = frozenset(MEMBERS) - {me}
    peers = {m: LEADING if register and m == register.leader else LIVING for m in MEMBERS if m != me}
    peers.update(but.pop("peers", {}))
    here = Primary(HERE, tuple(attachment(m) for m in sorted(voters)))
    whole = View(
        me=me,
        now_ms=LONG,
        wall_ms=1_700_000_000_000,
        settings=SETTINGS,
        addresses={m: Address(f"10.0.0.{m[1:]}", 5432) for m in MEMBERS},
        register_seen=True,
        register=register,
        revision=9,
        register_age_ms=LONG,
        epoch_age_ms=LONG,
        seals={},
        next_seals={},
        seals_age_ms=LONG,
        store_ok=True,
        changing=False,
        settled=True,
        promise=EPOCH,
        led=EPOCH if leads else 0,
        handing_over=False,
        engine=PRIMARY if leads else STANDBY,
        running_effect=None,
        died=False,
        sealed=None,
        bootstrapped="",
        primary=here if leads else None,
        enforced=Names(EPOCH, voters, 1) if leads else None,
        enforced_lsn=HERE.lsn - 100 if leads else 0,
        opening_lsn=HERE.lsn - 200 if leads else 0,
        opened=EPOCH if leads else 0,
        absent_ms={},
        not_receiving_ms=0,
        up_ms=LONG,
        back_off_ms=0,
        forbearance_ms=0,
        retake_age_ms=LONG,
        has_changed=True,
        lease_left_ms=LONG,
        guard_silent_ms=0,
        renewed_age_ms=0,
        peers=peers,
    )
    return replace(whole, **but)


def electing(reason: str = "suspected", epoch: int = EPOCH + 1, **but: Any) -> Register:
    """The register under a candidacy of n2 over n1."""
    base = REGISTER.but(epoch=epoch, phase=Phase.ELECTING, nonce="n2:2", reason=reason, switchover=None)
    return base.but(**but)


def seals(epoch: int = EPOCH + 1, **lsn_of: int) -> dict[str, Seal]:
    """Published seals: each member's LSN on the timeline of EPOCH."""
    return {m: Seal(m, epoch, Position(EPOCH, lsn)) for m, lsn in lsn_of.items()}
