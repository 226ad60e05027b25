"""For each line of the table a sentence that says why, from what was observed. Pure.

A sentence names only what the series show. What the cluster itself wrote down (when it had sealed, named, promoted and
opened, and on what evidence) is quoted as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from statistics import mean

from twinstar.compare.comparison import CONTROL, Contestant, FaultRun, Resources, Tally
from twinstar.compare.figures import median_of, refusals
from twinstar.compare.figures import outage as outage_of

Found = Mapping[str, Contestant]
_STEP_WORDS = {
    "sealed": "detached from it after {:.0f} ms",
    "named": "named after {:.0f} ms",
    "promoted": "promoted after {:.0f} ms",
    "opened": "open after {:.0f} ms",
}


def short(name: str) -> str:
    """`active-passive-quorum` as `AP quorum`."""
    strategy, _, durability = name.rpartition("-")
    return f"{''.join(word[0] for word in strategy.split('-')).upper()} {durability}"


def _each(found: Found, sentence: Callable[[Contestant], str]) -> str:
    """`AP async: …; AP quorum: ….`, without those that have nothing to say."""
    parts = [f"{short(name)}: {text}" for name, contestant in found.items() if (text := sentence(contestant))]
    return "; ".join(parts) + "." if parts else ""


# -- availability ------------------------------------------------------------------------------------------------------


def outage(fault: str, found: Found) -> str:
    """What a fault's outage was made of."""
    if fault == CONTROL:
        lengths = [outage_of(run) for each in found.values() for run in each.availability.get(CONTROL, ())]
        if not lengths:
            return ""
        return (
            f"Nothing was broken: the longest time between two acknowledgements of one client was {min(lengths):.0f} "
            f"to {max(lengths):.0f} ms. Of outages below, so much is the machine's."
        )
    return _each(found, lambda contestant: _of_fault(fault, contestant))


def _of_fault(fault: str, contestant: Contestant) -> str:
    runs = contestant.availability.get(fault)
    if not runs:
        return contestant.skipped.get(fault, "").rstrip(".")
    run = sorted(runs, key=outage_of)[len(runs) // 2]
    return _of_nodes(run, contestant) if run.others_outage_ms is not None else _of_leader(run)


def _of_leader(run: FaultRun) -> str:
    if not run.steps_ms:
        return f"{run.struck} was struck and no change of leader was recorded"
    steps = ", ".join(_STEP_WORDS[name].format(at) for name, at in run.steps_ms.items() if name in _STEP_WORDS)
    reason = f" ({run.reason})" if run.reason else ""
    return f"{run.struck} led{reason}; its successor was {steps}, and clients had to connect again"


def _of_nodes(run: FaultRun, contestant: Contestant) -> str:
    control = contestant.availability.get(CONTROL, ())
    calm = median_of([outage_of(each) for each in control])
    struck = sum(client.node == run.struck for client in run.clients)
    others = len(run.clients) - struck
    return (
        f"{struck} of {len(run.clients)} clients were on {run.struck} and had to connect again, to other nodes; of the "
        f"{others} others' statements {run.others_failed} failed, and they waited {outage_of(run, others=True):.0f} ms "
        f"at most (without a fault {calm:.0f} ms){_beside(run)}"
    )


def _beside(run: FaultRun) -> str:
    since = run.fault_at_ms or 0.0
    count = sum(at >= since for client in run.beside for at in client.acknowledged_ms)
    return f"; {run.struck} went on for those who still reached it: {count:,} writes" if count else ""


# -- failed statements, data loss --------------------------------------------------------------------------------------


def _faulty(contestant: Contestant) -> list[FaultRun]:
    return [run for fault, runs in contestant.availability.items() if fault != CONTROL for run in runs]


def failed(found: Found) -> str:
    """By error, and what it took to go on."""

    def of(contestant: Contestant) -> str:
        errors: Counter[str] = Counter()
        for run in _faulty(contestant):
            errors.update(refusals(run.clients))
        if not errors:
            return "" if not _faulty(contestant) else "none"
        return ", ".join(f"{count} × {error}" for error, count in errors.most_common(3))

    said = _each(found, of)
    return (
        f"{said} A client connects again and repeats the statement; where its effect is unknown, it must look first."
        if said
        else ""
    )


def lost(found: Found) -> str:
    def of(contestant: Contestant) -> str:
        runs = [(fault, run) for fault, runs in contestant.availability.items() for run in runs]
        if not runs:
            return ""
        gone = {fault: sum(len(each.lost_rows) for name, each in runs if name == fault) for fault, _ in runs}
        where = ", ".join(f"{count} in {fault}" for fault, count in gone.items() if count)
        twice = sum(run.duplicates for _, run in runs)
        repeated = f", {twice} rows twice, since clients repeated what had been done" if twice else ""
        if where:
            return f"{where}: acknowledged before another node had them{repeated}"
        if contestant.durability == "async":
            return f"none this time; what no other node has yet is gone with a disk{repeated}"
        return f"none; each was confirmed from a second node's disk{repeated}"

    return _each(found, of)


# -- conflicts ---------------------------------------------------------------------------------------------------------


def conflict(kind: str, found: Found) -> str:
    def of(contestant: Contestant) -> str:
        if contestant.conflicts is None:
            return ""
        tally: Tally = getattr(contestant.conflicts, kind)
        many = contestant.strategy == "active-active"
        if tally.there >= tally.wanted:
            if many and kind == "counters":
                return "what each node has added is added up, whatever the order"
            return "one node keeps the order, so nothing is overwritten unread" if not many else "no two writes crossed"
        if not many:
            return f"{tally.lost:,} were overwritten by a client that had read before them: on one server, too"
        read_before = kind in ("naive_increments", "updates")
        rest = ", or overwritten by a client that had read before them" if read_before else ""
        return f"{tally.lost:,} were made on two nodes at once, where one version of a row stays{rest}"

    return _each(found, of)


def logged(found: Found) -> str:
    def of(contestant: Contestant) -> str:
        conflicts = contestant.conflicts
        if conflicts is None:
            return ""
        if contestant.strategy != "active-active":
            return "one node takes writes, so none cross"
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in conflicts.logged_kinds.items())
        return (
            f"{kinds or 'none'}; all can be restored; the nodes were equal {conflicts.settled_ms:.0f} ms after the "
            f"last write at most, and {conflicts.differing} rows differ"
        )

    return _each(found, of)


# -- resources ---------------------------------------------------------------------------------------------------------


def _resources(found: Found, sentence: Callable[[Resources], str]) -> str:
    return _each(found, lambda contestant: sentence(contestant.resources) if contestant.resources else "")


def useful(found: Found) -> str:
    return _resources(
        found,
        lambda used: ", ".join(f"{node.node} ({node.role}) did {node.writes:,} writes" for node in used.per_node),
    )


def cpu(found: Found) -> str:
    def of(used: Resources) -> str:
        parts: Counter[str] = Counter()
        for node in used.per_node:
            parts.update(node.cpu_parts_s)
        idle = [node.cpu_s for node in used.per_node if not node.writes]
        beside = f", {sum(idle):.2f} s of it on nodes that took no writes" if idle else ""
        return " + ".join(f"{part} {spent:.2f} s" for part, spent in parts.items()) + beside

    return _resources(found, of)


def wal(found: Found) -> str:
    def of(used: Resources) -> str:
        writes = sum(node.writes for node in used.per_node)
        if not writes:
            return ""
        return ", ".join(f"{node.node} {node.wal_bytes / writes:,.0f} B" for node in used.per_node)

    return _resources(found, of)


def net(found: Found) -> str:
    def of(used: Resources) -> str:
        sent = [
            f"{node.node} sent {node.net_bytes / 2**20:.1f} MiB" for node in used.per_node if node.net_bytes is not None
        ]
        return ", ".join(sent)

    return _resources(found, of)


def memory(found: Found) -> str:
    return _resources(found, lambda used: ", ".join(f"{node.node} {node.rss_mib:.0f} MiB" for node in used.per_node))


# -- speed, staleness, complexity --------------------------------------------------------------------------------------


def speed(kind: str, many: str, where: str, found: Found) -> str:
    """Compared with the first contestant, and which nodes worked."""
    case = f"{kind}-{many}-{where}"
    measured = {name: each.speed[case] for name, each in found.items() if case in each.speed}
    if not measured:
        return ""
    first, base = next(iter(measured.items()))
    parts = [f"{short(first)} was done by {', '.join(base.nodes)}"]
    for name, each in list(measured.items())[1:]:
        ratio = each.per_s / base.per_s if base.per_s else 0.0
        parts.append(f"{short(name)} by {', '.join(each.nodes)}, {ratio:.2f} × its throughput")
    return "; ".join(parts) + "."


def stale(found: Found) -> str:
    def of(contestant: Contestant) -> str:
        if contestant.staleness is None:
            return ""
        ages = contestant.staleness.ages_ms
        if not ages:
            return "no reader saw any of it"
        there = sum(age == 0 for age in ages)
        how = "replays the leader's log" if contestant.strategy == "active-passive" else "applies the writer's rows"
        return (
            f"a node that {how} showed a write {mean(ages):.1f} ms after its acknowledgement on average; "
            f"{there:,} of {len(ages):,} were there before the writer was told"
        )

    return _each(found, of)


def settings(found: Found) -> str:
    """Those that only some have."""
    known = {name: set(each.complexity.settings) for name, each in found.items() if each.complexity}
    shared = set.intersection(*known.values()) if known else set()
    own = {name: sorted(keys - shared) for name, keys in known.items()}
    said = "; ".join(f"{short(name)}: {', '.join(keys)}" for name, keys in own.items() if keys)
    return f"{len(shared)} are the same for all. Besides: {said}." if said else f"All {len(shared)} are the same."


def processes(found: Found) -> str:
    return _each(found, lambda each: ", ".join(each.complexity.processes) if each.complexity else "")


def commands(found: Found) -> str:
    return _each(found, lambda each: ", ".join(each.complexity.commands) if each.complexity else "")


def given_up(found: Found) -> str:
    def of(each: Contestant) -> str:
        return ", ".join(gone.promise for gone in each.complexity.given_up) if each.complexity else ""

    return _each(found, of)
