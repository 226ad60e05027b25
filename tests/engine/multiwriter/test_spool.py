"""What was received survives the end of the process, and nothing that was torn is taken for whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from twinstar.engine.postgresql.multiwriter.spool import Spool
from twinstar.model.errors import EngineError

TABLE = b"R\0\0\0\1public"
BEGIN, ROW, COMMIT = b"B1", b"Irow", b"C1"
FRAME = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "n1"


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    made = Spool(folder)
    yield made
    made.close()


def everything(spool: Spool) -> list[bytes]:
    found = []
    while spool.unread:
        found += spool.read()[0]
    return found


def reopened(spool: Spool, folder: Path, segment_bytes: int = 1000) -> Spool:
    """As after a kill: nothing was closed or cut."""
    return Spool(folder, segment_bytes)


def test_what_was_appended_is_read_in_order_and_again_after_a_restart(spool: Spool, folder: Path) -> None:
    assert spool.read() == ([], 0)
    spool.append([TABLE, BEGIN, ROW, COMMIT], 10)
    spool.append([BEGIN, COMMIT], 20)
    spool.sync()
    assert spool.read() == ([TABLE, BEGIN, ROW, COMMIT, BEGIN, COMMIT], 20)
    assert spool.read() == ([], 0)
    spool.append([BEGIN, ROW, COMMIT], 30)
    assert spool.read() == ([BEGIN, ROW, COMMIT], 30)
    again = reopened(spool, folder)
    assert again.end_lsn == 30
    assert everything(again) == [TABLE, BEGIN, ROW, COMMIT, BEGIN, COMMIT, BEGIN, ROW, COMMIT]
    again.close()


def test_an_unfinished_transaction_is_not_read_and_is_cut_away(spool: Spool, folder: Path) -> None:
    spool.append([TABLE, BEGIN, ROW, COMMIT, BEGIN, ROW], 10)
    assert everything(spool) == [TABLE, BEGIN, ROW, COMMIT]
    spool.append([ROW], 0)
    assert not spool.unread
    again = reopened(spool, folder)
    assert again.end_lsn == 10
    assert everything(again) == [TABLE, BEGIN, ROW, COMMIT]
    again.append([BEGIN, COMMIT], 20)
    assert everything(again) == [BEGIN, COMMIT]
    again.close()


def test_an_unfinished_transaction_goes_on_when_the_stream_does(spool: Spool) -> None:
    spool.append([BEGIN, ROW], 0)
    spool.append([ROW, COMMIT], 10)
    assert spool.read() == ([BEGIN, ROW, ROW, COMMIT], 10)
    spool.append([BEGIN, ROW], 0)
    spool.cut()
    spool.append([BEGIN, COMMIT], 20)
    assert spool.read() == ([BEGIN, COMMIT], 20)


def test_that_there_was_nothing_is_known_after_a_restart(spool: Spool, folder: Path) -> None:
    spool.note(50)
    spool.note(40)
    assert spool.end_lsn == 50
    assert spool.read() == ([], 50)
    again = reopened(spool, folder)
    assert again.end_lsn == 50
    again.close()


@pytest.mark.parametrize("torn", range(1, FRAME + 1 + len(BEGIN + COMMIT) + 8))
def test_whatever_a_crash_tears_off_what_was_whole_before_stays(folder: Path, torn: int) -> None:
    spool = Spool(folder)
    spool.append([BEGIN, ROW, COMMIT], 10)
    spool.append([BEGIN, COMMIT], 20)
    spool.close()
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-torn])
    again = Spool(folder)
    whole = [BEGIN, ROW, COMMIT] if torn <= FRAME + 8 + len(BEGIN + COMMIT) else []
    assert (everything(again), again.end_lsn) == (whole, 10 if whole else 0)
    again.append([BEGIN, COMMIT], 20)
    assert everything(again) == [BEGIN, COMMIT]
    again.close()


def test_a_byte_that_changed_ends_what_is_believed(folder: Path) -> None:
    spool = Spool(folder)
    spool.append([BEGIN, ROW, COMMIT], 10)
    spool.append([BEGIN, COMMIT], 20)
    spool.close()
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    again = Spool(folder)
    assert (again.end_lsn, everything(again)) == (10, [BEGIN, ROW, COMMIT])
    again.close()


def fill(spool: Spool, transactions: range) -> None:
    for number in transactions:
        spool.append([BEGIN, ROW * 20, COMMIT], number)


def test_segments_are_dropped_once_they_are_read_and_applied(folder: Path) -> None:
    spool = Spool(folder, segment_bytes=1000)
    spool.append([TABLE], 0)
    fill(spool, range(1, 101))
    assert len(list(folder.iterdir())) > 5
    spool.applied(100)
    assert len(list(folder.iterdir())) > 5, "nothing was read"
    read = everything(spool)
    assert read.count(COMMIT) == 100
    spool.applied(50)
    left = len(list(folder.iterdir()))
    assert 2 < left < 9
    spool.applied(100)
    assert len(list(folder.iterdir())) == 1
    assert spool.size_bytes < 2000
    again = reopened(spool, folder)
    assert again.end_lsn == 100
    assert everything(again)[0] == TABLE, "a segment can be read without those before it"
    again.close()
    spool.close()


def test_a_segment_in_the_middle_that_is_damaged_is_no_torn_end(folder: Path) -> None:
    spool = Spool(folder, segment_bytes=1000)
    fill(spool, range(1, 30))
    spool.close()
    first = min(folder.iterdir())
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(EngineError, match="damaged"):
        Spool(folder, segment_bytes=1000)
