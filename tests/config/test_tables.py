"""Which rule of `tables` a table follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstar.config.schema import TableRule
from twinstar.config.tables import matches, rule_of

NAMES = st.text("ab.*?[]_é ", min_size=1, max_size=6)
SCHEMAS = st.text("ab*?[]_é ", min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("pattern", "schema", "name", "matching"),
    [
        ("orders", "public", "orders", True),
        ("orders", "shop", "orders", False),
        ("shop.orders", "shop", "orders", True),
        ("shop.orders", "shop", "orders_old", False),
        ("shop.*", "shop", "orders", True),
        ("*.orders_?", "any", "orders_1", True),
        ("*.orders_?", "any", "orders_12", False),
        ("*", "public", "a", True),
        ("*", "other", "a", False),
        ("public.a[b]", "public", "ab", False),
        ("public.a[b]", "public", "a[b]", True),
    ],
)
def test_patterns(pattern: str, schema: str, name: str, matching: bool) -> None:
    assert matches(pattern, schema, name) is matching


@given(SCHEMAS, NAMES)
def test_a_full_name_matches_itself_and_all_of_its_schema_does(schema: str, name: str) -> None:
    assert matches(f"{schema}.{name}", schema, name)
    assert matches(f"{schema}.*", schema, name)
    assert not matches(f"{schema}x.*", f"{schema}y", name)


def test_the_first_rule_that_matches_counts() -> None:
    stock, rest = TableRule(pattern="shop.stock", counters=("amount",)), TableRule(pattern="shop.*")
    assert rule_of((stock, rest), "shop", "stock") is stock
    assert rule_of((rest, stock), "shop", "stock") is rest
    assert rule_of((stock, rest), "shop", "orders") is rest
    assert rule_of((stock, rest), "public", "orders") is None
