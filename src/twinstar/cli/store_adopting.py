"""`twinstar store adopt`: shows what each member holds, asks, and writes a register above every promise."""

from __future__ import annotations

import asyncio
import secrets as tokens
from typing import Any

from rich.table import Table

from twinstar.agent.ledger import REGISTER
from twinstar.api.client import Client
from twinstar.cli.output import console, print_line
from twinstar.cli.store_backup import in_store, refuse_active_active
from twinstar.cli.tell import confirm
from twinstar.config.derive import addresses, tls_of
from twinstar.config.schema import Config, Node
from twinstar.config.tls import Purpose, ssl_context
from twinstar.model.errors import EnvironmentTrouble, PeerError, UsageError
from twinstar.model.position import Position
from twinstar.model.register import Register
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.rules.active_passive.adopting import Adoption, Holding, adoption
from twinstar.store.base import ABSENT, Applied, Conflict, Store, Versioned


def adopt_store(config: Config, to: str | None, base: Register | None, *, accept_loss: bool, yes: bool) -> None:
    """`base`: what a backup has, where the store has nothing. Raises TwinstarError."""
    refuse_active_active(config)
    found = in_store(config, lambda store: store.read(REGISTER))
    register = Register.decode(found.value) if found else base
    holdings = asyncio.run(_holdings(config))
    _show(register, holdings)
    plan = adoption(register, holdings, config.durability, to, restored=found is None)
    if plan.doubts and not accept_loss:
        raise UsageError(
            f"What others alone hold could be lost: {'; '.join(plan.doubts)}. Bring them back first, or say "
            "--accept-loss."
        )
    confirm(f"The data of {plan.chosen} count, under epoch {plan.register.epoch}; the others follow it. Go on?", yes)
    in_store(config, lambda store: _write(store, plan, found))
    print_line(f"Epoch {plan.register.epoch} begins with the data of {plan.chosen}: see `twinstar status`.")


async def _write(store: Store, plan: Adoption, found: Versioned | None) -> None:
    value = plan.register.but(nonce=f"{plan.chosen}:adopted-{tokens.token_hex(8)}").encode()
    outcome = await store.compare_and_set(REGISTER, value, found.revision if found else ABSENT)
    if isinstance(outcome, Applied):
        return
    if isinstance(outcome, Conflict):
        raise EnvironmentTrouble("Somebody else has changed the store's entry meanwhile: see `twinstar status`.")
    raise EnvironmentTrouble(f"Whether it was adopted is not known ({outcome.why}): see `twinstar status`.")


async def _holdings(config: Config) -> list[Holding]:
    tls = tls_of(config, "client")
    context = ssl_context(tls, Purpose.CALL_HTTP) if tls else None
    client = Client(SystemNetwork(), SystemClock(), context)
    return list(await asyncio.gather(*(_holding(client, node) for node in config.nodes)))


async def _holding(client: Client, node: Node) -> Holding:
    """By the node's own agent."""
    try:
        status = await client.status(addresses(node).api)
    except (EnvironmentTrouble, PeerError):
        return Holding(node.name, answers=False)
    own: dict[str, Any] = next((each for each in status["members"] if each["name"] == node.name), {})
    return Holding(
        node.name,
        answers=True,
        promise=own.get("promise") or 0,
        position=Position.parse(own["position"]) if own.get("position") else None,
        leads=own.get("leads", False),
        system_identifier=own.get("system_identifier") or "",
    )


def _show(register: Register | None, holdings: list[Holding]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("member", "has promised", "its log reaches", "database"):
        table.add_column(column)
    for each in holdings:
        if not each.answers:
            table.add_row(each.member, "?", "?", "does not answer")
            continue
        says = str(each.position) if each.position else "?"
        table.add_row(each.member, str(each.promise), says, "leads" if each.leads else "does not lead")
    stands = "nothing" if register is None else f"epoch {register.epoch}, led by {register.leader or 'nobody'}"
    print_line(f"The store has {stands}.")
    console().print(table)
