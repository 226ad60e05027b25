"""What is written is what is read; what this program does not know is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.views import REGISTER
from twinstar.model.errors import UnknownSchema
from twinstar.model.position import Position
from twinstar.model.register import Durability, Phase, Register, Seal, Switchover

NAMES = st.sampled_from(["n1", "n2", "n3", "knoten-ä"])
POSITIONS = st.builds(Position, st.integers(0, 1 << 31), st.integers(0, 1 << 62))
REGISTERS = st.builds(
    Register,
    epoch=st.integers(0, 1 << 31),
    phase=st.sampled_from(Phase),
    leader=NAMES,
    copies=st.frozensets(NAMES),
    required=st.integers(0, 9),
    durability=st.sampled_from(Durability),
    nonce=st.text(max_size=20),
    fork=st.none() | POSITIONS,
    position=st.none() | POSITIONS,
    switchover=st.none() | st.builds(Switchover, NAMES, st.integers(0, 1 << 45)),
    paused=st.booleans(),
    evidence=st.text(max_size=40),
)


@given(REGISTERS)
def test_a_register_survives_its_encoding(register: Register) -> None:
    assert Register.decode(register.encode()) == register


@given(st.permutations(["n1", "n2", "n3"]))
def test_equal_registers_are_equal_bytes(copies: list[str]) -> None:
    assert REGISTER.but(copies=frozenset(copies)).encode() == REGISTER.encode()


@given(NAMES, st.integers(0, 1 << 31), POSITIONS)
def test_a_seal_survives_its_encoding(member: str, epoch: int, position: Position) -> None:
    seal = Seal(member, epoch, position)
    assert Seal.decode(seal.encode()) == seal


@pytest.mark.parametrize("schema", [2, 0, None, "1"])
def test_another_schema_is_refused(schema: object) -> None:
    raw = json.loads(REGISTER.encode()) | {"schema": schema}
    with pytest.raises(UnknownSchema, match="same version of Twinstar on every node"):
        Register.decode(json.dumps(raw).encode())
    with pytest.raises(UnknownSchema):
        Seal.decode(json.dumps({"schema": schema, "member": "n1", "epoch": 1, "position": "1:0/1"}).encode())
