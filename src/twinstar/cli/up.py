"""`twinstar up`: starts a cluster on this machine and waits until it serves."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twinstar.cli.launch import Launched
from twinstar.cli.local_cluster import LocalCluster
from twinstar.cli.make_cluster import load_prepared
from twinstar.cli.output import print_json, print_line, progress, stop_on_sigterm
from twinstar.config.load import load
from twinstar.drill.target import View
from twinstar.model.errors import EnvironmentTrouble, PeerError, UsageError

_PATIENCE_S = 120.0
_POLL_S = 0.1
_REFUSED_S = 3.0
"""Who refuses may still be waiting for the others to begin."""


@contextlib.contextmanager
def serving_cluster(file: Path, say: Callable[[str], None]) -> Iterator[tuple[Launched, LocalCluster, View]]:
    """A cluster of this process, started and serving; ended with the context unless it is detached.

    Raises TwinstarError when it does not come up.
    """
    refuse_second(file)
    load_prepared(file)
    with Launched(file) as launched:
        say("starting the processes")
        launched.wait_for_start()
        cluster = LocalCluster(file)
        yield launched, cluster, _wait_until_serving(launched, cluster, say)


def refuse_second(file: Path) -> None:
    """Raises UsageError when this cluster is up already."""
    if LocalCluster(file).state() is not None:
        raise UsageError(
            f"The cluster of {file} is up already: look at it with `twinstar status`, or stop it with `twinstar down`."
        )


def _wait_until_serving(launched: Launched, cluster: LocalCluster, say: Callable[[str], None]) -> View:
    """As `drill.target.wait_until_serving`, but who refuses is not waited for, and a program that has ended ends it."""
    began = time.monotonic()
    last = ""
    while time.monotonic() < began + _PATIENCE_S:
        for event in launched.events():
            launched.check(event)
        view, last = _look(cluster)
        if view is not None and _is_up(view):
            return view
        if view is not None and view.refusals and not view.open and time.monotonic() > began + _REFUSED_S:
            raise EnvironmentTrouble(" ".join(view.refusals))
        say(last)
        time.sleep(_POLL_S)
    raise EnvironmentTrouble(
        f"The cluster does not serve after {_PATIENCE_S:.0f} s ({last}): see the logs in {launched.files.logs}."
    )


def _look(cluster: LocalCluster) -> tuple[View | None, str]:
    try:
        view = cluster.view()
    except EnvironmentTrouble:
        return None, "no agent answers yet"
    except PeerError as trouble:
        return None, str(trouble)
    return view, str(view)


def _is_up(view: View) -> bool:
    """Serving with all members but those that refuse, which somebody must put right first."""
    rest = [member for member in view.members if member.state != "refused"]
    return view.serving or (view.open and len(rest) > 1 and all(m.state in ("running", "streaming") for m in rest))


def run_up(file: Path, *, detach: bool, as_json: bool) -> None:
    """The command. Returns when the cluster has ended, or at once when it serves and is to live on."""
    stop_on_sigterm()
    with contextlib.ExitStack() as stack:
        with progress("up", quiet=as_json) as say:
            launched, cluster, view = stack.enter_context(serving_cluster(file, say))
        if detach:
            launched.detach()
        if as_json:
            print_json(_facts(cluster, view))
        else:
            _show(cluster, view, detach)
        if not detach:
            _stay(launched)


def _stay(launched: Launched) -> None:
    """Until Ctrl-C, or until somebody stops the cluster; says which programs end meanwhile."""
    try:
        while True:
            for event in launched.events(patience_s=_POLL_S):
                if event["event"] == "gone":
                    return
                if event["event"] == "ended":
                    print_line(f"{event['name']} has ended; `twinstar start {event['again']}` starts it again.")
    except KeyboardInterrupt:
        print_line("Stopping the cluster.")


def _facts(cluster: LocalCluster, view: View) -> dict[str, Any]:
    status = cluster.status()
    return {
        "cluster": status["cluster"],
        "config": str(cluster.files.config),
        "leader": view.leader,
        "epoch": view.epoch,
        "endpoints": status["endpoints"],
        "logs": str(cluster.files.logs),
    }


def _show(cluster: LocalCluster, view: View, detached: bool) -> None:
    facts = _facts(cluster, view)
    if view.strategy == "active-active":
        how = f"{len(view.members)} nodes take writes"
    else:
        how = f"{view.leader} leads in epoch {view.epoch}, {len(view.standbys)} standbys stream"
    dsns = "".join(f"  {name:<7} {dsn}\n" for name, dsn in facts["endpoints"].items())
    print_line(
        f"The cluster {facts['cluster']} serves: {how}.\n\n"
        f"{dsns}  try     psql '{view.write}'\n"
        f"  config  {facts['config']}\n  logs    {facts['logs']}\n"
    )
    for refusal in view.refusals:
        print_line(refusal)
    print_line(
        "Stop it with `twinstar down`." if detached else "Stop it with Ctrl-C, or `twinstar down` from elsewhere."
    )


def run_down(file: Path, *, as_json: bool) -> None:
    """The command `down`."""
    load(file)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with progress("down", quiet=as_json) as say:
        say("stopping agents, databases, router and store")
        left = LocalCluster(file).down()
    if as_json:
        print_json({"ran": left is not None, "left_behind": left or 0})
    elif left is None:
        print_line("Nothing of this cluster runs here.")
    else:
        print_line("The cluster is stopped." + (f" {left} processes had been left behind." if left else ""))
