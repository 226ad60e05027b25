"""What the simulator's Kubernetes takes the real one to do: each fact is asked of both."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from twinstar.store.base import ABSENT
from twinstar.store.kubernetes.records import PLURAL, Records, revision_of

Json = dict[str, Any]
Ask = Callable[[str, str, Json | None], Awaitable[tuple[int, Json]]]
"""Method, path, document: what an API server answers. What is no single JSON document is in `message`."""
Fact = Callable[[Ask, Records], Awaitable[None]]


async def made(ask: Ask, records: Records, key: str) -> Json:
    status, found = await ask("POST", records.collection, records.written(key, b"0", ABSENT, 0))
    assert status == 201
    return found


async def who_is_second_to_create_is_told_that_it_exists(ask: Ask, records: Records) -> None:
    await made(ask, records, "k")
    status, said = await ask("POST", records.collection, records.written("k", b"1", ABSENT, 0))
    assert (status, said["reason"], said["details"]["name"]) == (409, "AlreadyExists", records.name("k"))


async def who_updates_an_older_one_is_refused(ask: Ask, records: Records) -> None:
    first = revision_of(await made(ask, records, "k"))
    status, found = await ask("PUT", records.path("k"), records.written("k", b"1", first, 0))
    assert (status, revision_of(found) > first) == (200, True)
    status, said = await ask("PUT", records.path("k"), records.written("k", b"2", first, 0))
    assert (status, said["reason"]) == (409, "Conflict")


async def what_is_not_there_is_named(ask: Ask, records: Records) -> None:
    for method, document in (("GET", None), ("DELETE", None), ("PUT", records.written("k", b"1", 7, 0))):
        status, said = await ask(method, records.path("k"), document)
        assert (status, said["reason"]) == (404, "NotFound")
        assert (said["details"]["kind"], said["details"]["name"]) == (PLURAL, records.name("k"))


async def an_update_that_changes_nothing_is_none(ask: Ask, records: Records) -> None:
    before = await made(ask, records, "k")
    status, found = await ask("PUT", records.path("k"), before)
    assert (status, revision_of(found)) == (200, revision_of(before))


async def a_note_of_others_moves_the_revision_and_our_next_change_takes_it_away(ask: Ask, records: Records) -> None:
    before = await made(ask, records, "k")
    noted = {**before, "metadata": {**before["metadata"], "annotations": {"note": "seen"}}}
    status, found = await ask("PUT", records.path("k"), noted)
    assert (status, revision_of(found) > revision_of(before), found["spec"]) == (200, True, before["spec"])
    status, found = await ask("PUT", records.path("k"), records.written("k", b"1", revision_of(found), 0))
    assert (status, "annotations" in found["metadata"]) == (200, False)


async def a_listing_is_of_one_cluster_and_as_new_as_its_objects(ask: Ask, records: Records) -> None:
    other = Records(records.cluster + "2", records.collection.split("/")[-2])
    mine, _ = await made(ask, records, "k"), await made(ask, other, "k")
    status, found = await ask("GET", f"{records.collection}?{records.selection}", None)
    assert (status, [records.read(each).key for each in found["items"]]) == (200, ["k"])
    assert revision_of(found) > revision_of(mine)


async def a_watch_tells_what_came_after_its_revision_and_ends_when_it_was_asked_to(ask: Ask, records: Records) -> None:
    first = revision_of(await made(ask, records, "k"))
    _, second = await ask("PUT", records.path("k"), records.written("k", b"1", first, 0))
    await made(ask, records, "later")
    assert (await ask("DELETE", records.path("k"), None))[0] == 200
    query = f"{records.selection}&watch=1&allowWatchBookmarks=true&resourceVersion={first}&timeoutSeconds=3"
    status, said = await ask("GET", f"{records.collection}?{query}", None)
    told = [json.loads(line) for line in said["message"].splitlines()]
    changes = [each for each in told if each["type"] != "BOOKMARK"]
    assert (status, [each["type"] for each in changes]) == (200, ["MODIFIED", "ADDED", "DELETED"])
    assert changes[0]["object"]["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    gone = changes[2]["object"]
    assert (records.read(gone).value, revision_of(gone) > revision_of(changes[1]["object"])) == (b"1", True)


FACTS: tuple[Fact, ...] = (
    who_is_second_to_create_is_told_that_it_exists,
    who_updates_an_older_one_is_refused,
    what_is_not_there_is_named,
    an_update_that_changes_nothing_is_none,
    a_note_of_others_moves_the_revision_and_our_next_change_takes_it_away,
    a_listing_is_of_one_cluster_and_as_new_as_its_objects,
    a_watch_tells_what_came_after_its_revision_and_ends_when_it_was_asked_to,
)
