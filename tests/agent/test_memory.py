"""What a member remembers, and what becomes of it when the disk is full or what stands there is damaged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.agent.disks import full_disk
from twinstar.agent.memory import Memory
from twinstar.model.errors import EnvironmentTrouble, UnknownSchema


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "member.json"


def test_what_was_remembered_is_there_after_a_restart(file: Path) -> None:
    memory = Memory(file)
    memory.promise(3, handing_over=True)
    memory.lead(4, "17:99")
    memory.heard("n2")
    assert Memory(file).now == memory.now
    assert (memory.now.promise, memory.now.leads, memory.now.heard) == (4, 4, ("n2",))
    memory.promise(2)
    assert memory.now.promise == 4, "a promise never goes back"


def test_a_promise_that_cannot_be_written_down_is_not_given(file: Path) -> None:
    memory = Memory(file)
    memory.promise(3)
    before = memory.now
    with full_disk(file):
        changes: tuple[Callable[[], None], ...] = (
            partial(memory.promise, 4),
            partial(memory.lead, 4, "17:99"),
            partial(memory.start_as, 9),
        )
        for change in changes:
            with pytest.raises(EnvironmentTrouble, match=r"No space left on device.*make room"):
                change()
    assert memory.now == before == Memory(file).now
    memory.promise(4)
    assert Memory(file).now.promise == 4


def test_who_was_heard_while_the_disk_was_full_is_written_down_with_the_next_change(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory(file)
    memory.promise(3)
    with full_disk(file):
        memory.heard("n2")
    assert memory.now.heard == ("n2",)
    assert Memory(file).now.heard == ()
    assert "n2 was heard is not kept" in caplog.text
    memory.promise(4)
    assert Memory(file).now.heard == ("n2",)


@pytest.mark.parametrize("damaged", ["", "{", "[]", "{}", '{"schema": 1}', '{"schema": 1, "heard": [], "other": 2}'])
def test_a_damaged_file_is_refused_and_says_what_to_do(file: Path, damaged: str) -> None:
    file.parent.mkdir()
    file.write_text(damaged)
    with pytest.raises(EnvironmentTrouble, match="treat this member's disk as lost"):
        Memory(file)


def test_a_file_of_another_version_is_refused(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"schema": 2}')
    with pytest.raises(UnknownSchema):
        Memory(file)
