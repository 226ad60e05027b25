"""What stands in the way of a table, each as a sentence that says what to do; and nothing where nothing does."""

from __future__ import annotations

from tests.engine.multiwriter.world import Node
from twinstar.engine.postgresql.multiwriter.obstacles import obstacles
from twinstar.engine.postgresql.multiwriter.table import Policy, describe

PLAIN = "(id int PRIMARY KEY, v text, n int NOT NULL, m int)"
LAST, COUNTED = Policy(), Policy(counters=("n",))
REFUSED: dict[str, tuple[str, Policy]] = {
    "has no primary key": ("CREATE TABLE {0} (v text)", LAST),
    "has a deferrable primary key": ("CREATE TABLE {0} (id int PRIMARY KEY DEFERRABLE)", LAST),
    "has the deferrable unique constraint": ("CREATE TABLE {0} (id int PRIMARY KEY, u int UNIQUE DEFERRABLE)", LAST),
    "has the exclusion constraint": (
        "CREATE TABLE {0} (id int PRIMARY KEY, during int4range, EXCLUDE USING gist (during WITH &&))",
        LAST,
    ),
    "is unlogged": (f"CREATE UNLOGGED TABLE {{0}} {PLAIN}", LAST),
    "is partitioned": ("CREATE TABLE {0} (id int PRIMARY KEY) PARTITION BY RANGE (id)", LAST),
    "is a partition,": (
        "CREATE TABLE {0}_all (id int PRIMARY KEY) PARTITION BY RANGE (id); "
        "CREATE TABLE {0} PARTITION OF {0}_all DEFAULT",
        LAST,
    ),
    "inherits or is inherited from": (f"CREATE TABLE {{0}} {PLAIN}; CREATE TABLE heir () INHERITS ({{0}})", LAST),
    "is a view": ("CREATE VIEW {0} AS SELECT 1 AS id", LAST),
    "is a materialized view": ("CREATE MATERIALIZED VIEW {0} AS SELECT 1 AS id", LAST),
    "has rules": (f"CREATE TABLE {{0}} {PLAIN}; CREATE RULE r AS ON DELETE TO {{0}} DO INSTEAD NOTHING", LAST),
    "which would fire after the one that stamps the row": (
        f'CREATE TABLE {{0}} {PLAIN}; CREATE TRIGGER "~~mine" BEFORE UPDATE ON {{0}} FOR EACH ROW '
        "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        LAST,
    ),
    "whose name is reserved": ("CREATE TABLE {0} (id int PRIMARY KEY, twinstar_mine int)", LAST),
    "in its key: use an ordinary column": (
        "CREATE TABLE {0} (id int, twice int GENERATED ALWAYS AS (id * 2) STORED, PRIMARY KEY (id, twice))",
        LAST,
    ),
    "GENERATED ALWAYS AS IDENTITY outside its key": (
        "CREATE TABLE {0} (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY)",
        LAST,
    ),
    "which is not known before the row is written": (
        "CREATE TABLE {0} (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED UNIQUE)",
        LAST,
    ),
    "has no column x": (f"CREATE TABLE {{0}} {PLAIN}", Policy(counters=("x",))),
    "has id in its key or generated": (f"CREATE TABLE {{0}} {PLAIN}", Policy(groups=(("id", "v"),))),
    "names n twice": (f"CREATE TABLE {{0}} {PLAIN}", Policy(counters=("n",), groups=(("n", "v"),))),
    "has the counter m, which must be": (f"CREATE TABLE {{0}} {PLAIN}", Policy(counters=("m",))),
    "has the counter f, which must be": (
        "CREATE TABLE {0} (id int PRIMARY KEY, f float8 NOT NULL)",
        Policy(counters=("f",)),
    ),
    "has a unique index over the counter n": (
        f"CREATE TABLE {{0}} {PLAIN}; CREATE UNIQUE INDEX ON {{0}} (n)",
        COUNTED,
    ),
    "a function beside counters or groups": (
        f"CREATE TABLE {{0}} {PLAIN}",
        Policy(counters=("n",), merge="public.merge"),
    ),
    "which is no function of two rows of the table": (f"CREATE TABLE {{0}} {PLAIN}", Policy(merge="public.merge")),
}
ACCEPTED = {
    "numbers": "(a smallint NOT NULL, b int NOT NULL, c bigint NOT NULL, d numeric(9, 2) NOT NULL, id uuid PRIMARY KEY "
    "DEFAULT gen_random_uuid())",
    "wide": "(a int, b text, c text UNIQUE, d int REFERENCES accepted_numbers_key, PRIMARY KEY (a, b), CHECK (a > 0))",
}


async def test_each_obstacle_is_named_with_what_to_do(trio: list[Node]) -> None:
    one = trio[0]
    said = {}
    for number, (sentence, (definition, policy)) in enumerate(REFUSED.items()):
        name = f"refused_{number}"
        await one.do(definition.format(name))
        found = await obstacles(one.user, await describe(one.user, "public", name), policy)
        said[sentence] = [each.sentence for each in found]
        assert all(each.table == f"public.{name}" for each in found)
    missing = {sentence: found for sentence, found in said.items() if not any(sentence in each for each in found)}
    assert not missing
    assert all(each.startswith("public.refused_") and each.endswith(".") for found in said.values() for each in found)


async def test_where_nothing_stands_in_the_way_nothing_is_said(trio: list[Node]) -> None:
    one = trio[0]
    await one.do("CREATE TABLE accepted_numbers_key (id int PRIMARY KEY)")
    for name, definition in ACCEPTED.items():
        await one.do(f"CREATE TABLE {name} {definition}")
    counters = Policy(counters=("a", "b", "c", "d"))
    assert await obstacles(one.user, await describe(one.user, "public", "numbers"), counters) == ()
    assert await obstacles(one.user, await describe(one.user, "public", "wide"), Policy(groups=(("c", "d"),))) == ()
