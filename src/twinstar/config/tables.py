"""Active-active: which tables every node writes to, by the patterns of `tables`. Pure."""

from __future__ import annotations

import re
from collections import Counter

from twinstar.config.schema import Config, TableRule

DEFAULT_SCHEMA = "public"


def rule_of(rules: tuple[TableRule, ...], schema: str, name: str) -> TableRule | None:
    """The first rule that matches this table; None: it is none of ours."""
    return next((rule for rule in rules if matches(rule.pattern, schema, name)), None)


def matches(pattern: str, schema: str, name: str) -> bool:
    """`*` stands for any characters and `?` for one, in the schema's part and in the name's."""
    wanted_schema, wanted_name = split(pattern)
    return _like(wanted_schema, schema) and _like(wanted_name, name)


def split(pattern: str) -> tuple[str, str]:
    """Schema and name of ``schema.name``, or of ``name``."""
    schema, dot, name = pattern.partition(".")
    return (schema, name) if dot else (DEFAULT_SCHEMA, schema)


def tables_make_sense(config: Config) -> str | None:
    """What is wrong with `tables`, in one sentence."""
    for index, rule in enumerate(config.tables):
        key = f"tables[{index}]"
        earlier = [other.pattern for other in config.tables[:index]]
        if not all(split(rule.pattern)):
            return f"`{key}.pattern` is {rule.pattern!r}: write schema.name, such as public.orders or public.*."
        if rule.pattern in earlier:
            return (
                f"`{key}.pattern` is {rule.pattern!r} like `tables[{earlier.index(rule.pattern)}]`: keep one of them."
            )
        if trouble := _columns(key, rule):
            return trouble
    return None


def _columns(key: str, rule: TableRule) -> str | None:
    for name, columns in rule.groups.items():
        if not columns:
            return f"`{key}.groups.{name}` has no columns: name some, or remove it."
    listed = [*rule.counters, *(column for columns in rule.groups.values() for column in columns)]
    twice = next((column for column, times in Counter(listed).items() if times > 1), None)
    if twice is not None:
        return f"`{key}` names the column {twice!r} twice: a column is one counter, or in one group."
    return None


def _like(pattern: str, text: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text, re.DOTALL) is not None
