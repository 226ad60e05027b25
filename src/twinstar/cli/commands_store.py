"""Commands for the store: its members, backups, and how a cluster goes on when the store has gone back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinstar.cli.output import ConfigOption, JsonOption

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ToOption = Annotated[str | None, typer.Option("--to", help="Whose data count; else the leader's, or the longest.")]
LossOption = Annotated[bool, typer.Option("--accept-loss", help="Also when what others alone hold may be lost.")]


def register(store: typer.Typer) -> None:
    """Adds these commands."""
    for name, function in (
        ("members", members),
        ("replace", replace),
        ("backup", backup),
        ("restore", restore),
        ("adopt", adopt),
        ("keep", keep),
    ):
        store.command(name)(function)


def members(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the members of a store that Twinstar runs, and what one more loss would do."""
    from twinstar.cli.local_files import find_config
    from twinstar.cli.managed_store import look, to_json
    from twinstar.cli.output import console, print_json, print_line
    from twinstar.cli.show_status import store_table
    from twinstar.config.load import load

    loaded = load(find_config(config))
    seen = to_json(look(loaded), loaded)
    if as_json:
        print_json(seen)
        return
    console().print(store_table(seen), soft_wrap=True)
    print_line(seen["one_more_loss"])


def replace(
    member: Annotated[str, typer.Argument(help="The member's name.")],
    yes: YesOption = False,
    config: ConfigOption = None,
) -> None:
    """Take a member out of a store that Twinstar runs; where its keeper runs, it joins again with an empty disk."""
    from twinstar.cli.local_files import find_config
    from twinstar.cli.managed_store import remove_member
    from twinstar.cli.output import print_line
    from twinstar.cli.tell import confirm
    from twinstar.config.load import load

    loaded = load(find_config(config))
    confirm(f"{member} loses its place in the store, and what its disk has of it is put aside. Go on?", yes)
    print_line(remove_member(loaded, member))


def backup(file: Annotated[Path, typer.Argument(help="Where to write it.")], config: ConfigOption = None) -> None:
    """Write all that the store has of this cluster into a file: any kind of store."""
    from twinstar.cli.local_files import find_config
    from twinstar.cli.output import print_line
    from twinstar.cli.store_backup import write_backup
    from twinstar.config.load import load

    print_line(write_backup(load(find_config(config)), file))


def restore(
    file: Annotated[Path, typer.Argument(help="What `twinstar store backup` wrote.")],
    begin: Annotated[
        str | None,
        typer.Option(help="Managed: first begin a new store with the member of this machine, its majority being lost."),
    ] = None,
    to: ToOption = None,
    accept_loss: LossOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
) -> None:
    """Fill an empty store from a backup, and go on under a fresh epoch, with the data that the members hold now."""
    from twinstar.cli.local_files import find_config
    from twinstar.cli.managed_store import begin_anew
    from twinstar.cli.store_adopting import adopt_store
    from twinstar.cli.store_backup import fill, read_backup
    from twinstar.config.load import load

    loaded = load(find_config(config))
    saved = read_backup(loaded, file)
    if begin is not None:
        begin_anew(loaded, begin, yes)
    fill(loaded, saved)
    adopt_store(loaded, to, saved.register, accept_loss=accept_loss, yes=yes)


def adopt(
    to: ToOption = None, accept_loss: LossOption = False, yes: YesOption = False, config: ConfigOption = None
) -> None:
    """Go on with a store that has gone back or is empty, after showing what each member holds."""
    from twinstar.cli.local_files import find_config
    from twinstar.cli.store_adopting import adopt_store
    from twinstar.config.load import load

    adopt_store(load(find_config(config)), to, None, accept_loss=accept_loss, yes=yes)


def keep(
    node: Annotated[str, typer.Option(help="This machine's name in the configuration.")], config: ConfigOption = None
) -> None:
    """Run the store keeper of a node or witness in the foreground."""
    from twinstar.cli.become import become_module, in_memory
    from twinstar.cli.local_files import find_config
    from twinstar.config.load import load
    from twinstar.config.managed import keeper_settings

    become_module("twinstar.store.managed", in_memory(keeper_settings(load(find_config(config)), node)))
