"""Commands to a cluster's agents: status, history, and what changes something."""

from __future__ import annotations

from typing import Annotated

import typer

from twinstar.cli.output import ConfigOption, JsonOption

MemberArgument = Annotated[str, typer.Argument(help="The member's name.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    takes_out = (reinit, remove, leave, rejoin)
    for function in (status, history, switchover, failover, pause, resume, restart, *takes_out, reload):
        app.command()(function)


def status(
    config: ConfigOption = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show who leads, how the members are, and what waits for what."""
    from twinstar.cli.local_files import find_config
    from twinstar.cli.show_status import show_status, watch_status
    from twinstar.config.load import load

    loaded = load(find_config(config))
    if watch:
        watch_status(loaded, as_json=as_json)
    else:
        show_status(loaded, as_json=as_json)


def history(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every change of leader: when, from whom to whom, why, and how long it took."""
    from twinstar.cli.local_files import find_config
    from twinstar.cli.show_history import show_history
    from twinstar.config.load import load

    show_history(load(find_config(config)), as_json=as_json)


def switchover(
    to: Annotated[str | None, typer.Option(help="Who is to lead; else the most advanced voter.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand the leadership over in order, without losing or cancelling anything."""
    from twinstar.cli.tell import tell

    tell(config, "switchover", as_json=as_json, to=to)


def failover(
    to: Annotated[str | None, typer.Option(help="Who is to lead; else the most advanced copy.")] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="When no safe set can be formed: lose what others alone hold.")
    ] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace a leader that does not answer; with --to X --accept-loss also when writes may be lost."""
    from twinstar.cli.tell import confirm, tell
    from twinstar.model.errors import UsageError

    if accept_loss and to is None:
        raise UsageError("Who is to lead must be said when writes may be lost: add --to NAME.")
    if accept_loss:
        confirm(f"Acknowledged writes that only other members hold are lost when {to} leads. Go on?", yes)
    tell(config, "failover", as_json=as_json, to=to, accept_loss=accept_loss)


def pause(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Suspend all automatic changes of leader; switchover and failover by hand still work."""
    from twinstar.cli.tell import tell

    tell(config, "pause", as_json=as_json)


def resume(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """End a pause."""
    from twinstar.cli.tell import tell

    tell(config, "resume", as_json=as_json)


def restart(member: MemberArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Restart a member's database, such as for settings that wait for it."""
    from twinstar.cli.tell import tell

    tell(config, "restart", at=member, as_json=as_json, member=member)


def reinit(
    member: MemberArgument, yes: YesOption = False, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Build a standby anew from the leader."""
    from twinstar.cli.tell import confirm, tell

    confirm(f"The data of {member} is replaced by a copy of the leader's. Go on?", yes)
    tell(config, "reinit", at=member, as_json=as_json, member=member)


def remove(
    member: MemberArgument, yes: YesOption = False, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Take a member that is gone for good out of the cluster."""
    from twinstar.cli.tell import confirm, tell

    confirm(f"{member} no longer counts, and its replication slots are dropped. Go on?", yes)
    tell(config, "remove", as_json=as_json, member=member)


def leave(
    member: MemberArgument, yes: YesOption = False, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Take a node out in order (active-active): the others get all it has first."""
    from twinstar.cli.tell import confirm, tell

    confirm(f"{member} takes no more clients, and leaves when the others have all it has. Go on?", yes)
    tell(config, "leave", at=member, as_json=as_json, member=member)


def rejoin(member: MemberArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Have a node that has left come back, as a copy of another one (active-active)."""
    from twinstar.cli.tell import tell

    tell(config, "rejoin", at=member, as_json=as_json, member=member)


def reload(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Have every agent read the configuration again and apply what has changed."""
    from twinstar.cli.tell import tell_each

    tell_each(config, "reload", as_json=as_json)
