"""Commands for processes on this machine: up, down, start, agent, guard, router, engine-exec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinstar.cli.output import ConfigOption, JsonOption, print_json, print_line


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for function in (up, down, start, agent, witness, guard, router):
        app.command()(function)
    app.command("engine-exec", hidden=True)(engine_exec)


def up(
    config: ConfigOption = None,
    nodes: Annotated[int | None, typer.Option(help="Make a new cluster of so many nodes in this folder.")] = None,
    strategy: Annotated[str | None, typer.Option(help="active-passive or active-active.")] = None,
    durability: Annotated[str | None, typer.Option(help="quorum or async.")] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="embedded, managed (etcd beside each node), etcd or zookeeper (three processes), kubernetes (the API "
            "server, one process)."
        ),
    ] = None,
    witnesses: Annotated[int | None, typer.Option(min=0, help="Nodes without a database, for a managed store.")] = None,
    policy: Annotated[str | None, typer.Option(help="When voters are missing: block or degrade.")] = None,
    preset: Annotated[str | None, typer.Option(help="fast, balanced or patient.")] = None,
    bin_dir: Annotated[Path | None, typer.Option(help="Where PostgreSQL's programs are.")] = None,
    lease_ms: Annotated[int | None, typer.Option(help="With async: how long a leader leads unseen.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it serves, and leave it running.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a whole cluster on this machine, from twinstar.yaml or, where there is none, a new one of three nodes."""
    from twinstar.cli.make_cluster import make_cluster
    from twinstar.cli.up import run_up
    from twinstar.cli.wishes import existing_config, wishes_of

    wishes = wishes_of(nodes, strategy, durability, store, policy, preset, bin_dir, lease_ms, witnesses)
    file = existing_config(config, wishes)
    run_up(file or make_cluster(Path.cwd(), wishes), detach=detach, as_json=as_json)


def down(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Stop the cluster that runs on this machine, from anywhere below its folder."""
    from twinstar.cli.local_files import find_config
    from twinstar.cli.up import run_down

    run_down(find_config(config), as_json=as_json)


def start(
    node: Annotated[str, typer.Argument(help="A node's name; also `router` or `store`.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a node's agent and guard again; the agent takes care of its database."""
    from twinstar.cli.local_cluster import LocalCluster
    from twinstar.cli.local_files import find_config

    started = LocalCluster(find_config(config)).start_again(node)
    if as_json:
        print_json({"started": started})
    else:
        print_line(f"Started: {', '.join(started)}." if started else f"All of {node} runs already.")


def agent(
    node: Annotated[str, typer.Option(help="This machine's name in the configuration.")],
    config: ConfigOption = None,
) -> None:
    """Run a node's agent in the foreground."""
    from twinstar.cli.become import become_module
    from twinstar.cli.local_files import find_config

    become_module("twinstar.agent", "--config", str(find_config(config)), "--node", node)


def witness(
    node: Annotated[str, typer.Option(help="This machine's name among the configuration's witnesses.")],
    config: ConfigOption = None,
) -> None:
    """Run a witness's agent in the foreground: it says which nodes it hears."""
    from twinstar.cli.local_files import find_config
    from twinstar.config.derive import witness_named
    from twinstar.config.load import load
    from twinstar.model.errors import UsageError

    file = find_config(config)
    loaded = load(file)
    if witness_named(loaded, node) is None:
        names = ", ".join(each.name for each in loaded.witnesses) or "none is in the configuration (`witnesses`)"
        raise UsageError(f"There is no witness {node!r}: {names}.")
    agent(node, file)


def guard(
    node: Annotated[str, typer.Option(help="This machine's name in the configuration.")],
    config: ConfigOption = None,
) -> None:
    """Run a node's guard in the foreground."""
    from twinstar.cli.become import become_module, in_memory
    from twinstar.cli.local_files import find_config
    from twinstar.config.derive import guard_settings
    from twinstar.config.load import load

    become_module("twinstar.guard", in_memory(guard_settings(load(find_config(config)), node)))


def router(config: ConfigOption = None) -> None:
    """Run a router in the foreground."""
    from twinstar.cli.become import become_module
    from twinstar.cli.local_files import find_config

    become_module("twinstar.router", "--config", str(find_config(config)))


def engine_exec(
    launch: Annotated[Path, typer.Option(help='A JSON file: {"argv": [...], "environment": {...}}.')],
) -> None:
    """Become the program that a launch file names; for systemd."""
    from twinstar.cli.become import become_launched

    become_launched(launch)
