"""Where a batch of what has come ends."""

from twinstar.engine.postgresql.multiwriter.landing import whole


def test_what_has_begun_waits_for_its_end() -> None:
    first, second = [b"B1", b"I", b"C1"], [b"B2", b"R", b"I"]
    assert whole([*first, *second]) == (first, second)
    assert whole([*second, b"C2"]) == ([*second, b"C2"], [])


def test_of_a_transaction_that_is_larger_than_what_comes_at_once_a_part_is_given() -> None:
    assert whole([b"B1", b"I", b"I"]) == ([b"B1", b"I", b"I"], [])
    assert whole([b"I", b"C1", b"B2"]) == ([b"I", b"C1"], [b"B2"])
    assert whole([]) == ([], [])
