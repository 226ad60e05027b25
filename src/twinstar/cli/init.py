"""`twinstar init`: writes a commented configuration, its secrets and, off the loopback, its certificates."""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from twinstar.config.check import TWO_NODES
from twinstar.config.hosts import is_loopback
from twinstar.config.load import load, parse
from twinstar.config.local import data_home, local_config
from twinstar.config.machines import MANAGED_PORT, plan_for_machines
from twinstar.config.plan import StoreText
from twinstar.config.schema import DURABILITY, Config, Strategy
from twinstar.config.secrets import Secrets
from twinstar.config.strategies import strategy_named
from twinstar.config.template import render
from twinstar.model.errors import UsageError
from twinstar.ports.free_ports import find_free_ports


@dataclass
class Done:
    """What was done, and what comes next."""

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)


def init(
    file: Annotated[Path, typer.Argument(help="The configuration to write.")] = Path("twinstar.yaml"),
    cluster: Annotated[str, typer.Option(help="The cluster's name.")] = "twinstar",
    nodes: Annotated[int, typer.Option(min=1, max=32, help="How many nodes, all on this machine.")] = 3,
    node: Annotated[
        list[str] | None, typer.Option(help="NAME=HOST, once for each machine, instead of --nodes.")
    ] = None,
    witness: Annotated[
        list[str] | None, typer.Option(help="NAME=HOST of a machine without a database, once for each.")
    ] = None,
    strategy: Annotated[str, typer.Option(help="active-passive or active-active.")] = "active-passive",
    durability: Annotated[str | None, typer.Option(help="quorum or async; else what the strategy has.")] = None,
    policy: Annotated[str | None, typer.Option(help="block or degrade; two nodes must say.")] = None,
    preset: Annotated[str, typer.Option(help="fast, balanced or patient.")] = "balanced",
    etcd: Annotated[list[str] | None, typer.Option(help="URL of an etcd endpoint; once for each.")] = None,
    zookeeper: Annotated[list[str] | None, typer.Option(help="HOST:PORT of a ZooKeeper; once for each.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Of a Kubernetes cluster that is the store.")] = None,
    host: Annotated[str, typer.Option(help="Loopback address of a cluster on this machine.")] = "127.0.0.1",
    bin_dir: Annotated[Path | None, typer.Option(help="Where PostgreSQL's programs are.")] = None,
    insecure: Annotated[bool, typer.Option(help="No TLS, even off the loopback.")] = False,
    force: Annotated[bool, typer.Option(help="Overwrite an existing configuration; secrets stay.")] = False,
    renew: Annotated[bool, typer.Option(help="Keep the configuration; make what is missing or runs out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Write a commented twinstar.yaml, the secrets and, for other machines, certificates."""
    done = Done()
    if not renew:
        _refuse_overwriting(file, force)
        chosen = strategy_named(strategy)
        policy = ask_policy(len(node) if node else nodes, durability or DURABILITY[chosen], policy)
        store = _store(etcd, zookeeper, kubeconfig)
        if node:
            text = _machines(
                file, cluster, node, witness or [], chosen, durability, policy, preset, store, bin_dir, insecure
            )
        else:
            text = local_config(
                find_ports=find_free_ports,
                file=file,
                cluster=cluster,
                nodes=nodes,
                strategy=chosen,
                durability=durability,
                store=store.kind if store.endpoints or kubeconfig else "embedded",
                endpoints=store.endpoints,
                kubeconfig=store.kubeconfig,
                preset=preset,
                policy=policy,
                host=host,
                directory=_data(cluster, file),
                secrets=Path("secrets"),
                bin_dir=bin_dir and bin_dir.absolute(),
                insecure=insecure,
            ).text
        _write(file, text, done)
    config = load(file)
    complete(config, done)
    _next_steps(config, file, done)
    _report(done, as_json)


def _refuse_overwriting(file: Path, force: bool) -> None:
    """Raises UsageError."""
    if file.exists() and not force:
        raise UsageError(
            f"{file} exists already: use --renew to complete its secrets and certificates, "
            "--force to overwrite it, or name another file."
        )


def _store(etcd: list[str] | None, zookeeper: list[str] | None, kubeconfig: Path | None) -> StoreText:
    """Raises UsageError."""
    if sum(map(bool, (etcd, zookeeper, kubeconfig))) > 1:
        raise UsageError("The register is in one store only: keep one of --etcd, --zookeeper and --kubeconfig.")
    if kubeconfig:
        return StoreText(kind="kubernetes", kubeconfig=kubeconfig.expanduser().absolute())
    return StoreText(endpoints=tuple(etcd or zookeeper or ()), kind="zookeeper" if zookeeper else "etcd")


def ask_policy(nodes: int, durability: str, policy: str | None) -> str | None:
    """The policy, asked for where two data nodes need one. Raises UsageError when there is no terminal to ask at."""
    if nodes != 2 or durability != "quorum" or policy is not None:
        return policy
    if not sys.stdin.isatty():
        raise UsageError(f"Say --policy block or --policy degrade: {TWO_NODES}.")
    typer.echo(f"{TWO_NODES[0].upper()}{TWO_NODES[1:]}.", err=True)
    answer: str = typer.prompt("Policy (block or degrade)", err=True)
    if answer not in ("block", "degrade"):
        raise UsageError(f"{answer!r} is no policy: say --policy block or --policy degrade.")
    return answer


def complete(config: Config, done: Done) -> None:
    """Makes the secrets and certificates that are missing or run out; used by `up` as well. Raises UsageError."""
    secrets = Secrets(config.secrets)
    made = secrets.make()
    (done.written if made else done.kept).append(f"{config.secrets}/ ({', '.join(made) or 'all secrets'})")
    if config.tls is None:
        return
    try:
        from twinstar.config.certificates import write_certificates
    except ImportError:
        raise UsageError(
            "Certificates are made with the package cryptography, which is missing: install twinstar[tls], "
            "put certificates of your own where `tls` says, or accept --insecure."
        ) from None
    certificates = write_certificates(config, datetime.datetime.now(datetime.UTC))
    done.written += [str(path) for path in certificates]
    if not certificates:
        done.kept.append(f"{config.tls.authority.parent}/ (all certificates)")


def _data(cluster: str, file: Path) -> Path:
    """Where a cluster on this machine has its data: two files that name their clusters alike must not share it."""
    return data_home(f"{cluster}-{hashlib.sha256(bytes(file.absolute())).hexdigest()[:6]}")


def _machines(
    file: Path,
    cluster: str,
    nodes: list[str],
    witnesses: list[str],
    strategy: Strategy,
    durability: str | None,
    policy: str | None,
    preset: str,
    store: StoreText,
    bin_dir: Path | None,
    insecure: bool,
) -> str:
    """With the store that Twinstar runs itself, unless another one is named."""
    pairs = [_name_and_host(text, "--node") for text in nodes]
    plan = plan_for_machines(
        pairs,
        store if store.endpoints or store.kubeconfig else StoreText(managed_port=MANAGED_PORT),
        witnesses=[_name_and_host(text, "--witness") for text in witnesses],
        cluster=cluster,
        strategy=strategy,
        durability=durability,
        policy=policy,
        preset=preset,
        insecure=insecure,
        bin_dir=bin_dir,
    )
    text = render(plan)
    parse(text, file)
    return text


def _name_and_host(text: str, option: str) -> tuple[str, str]:
    name, equals, host = text.partition("=")
    if not equals or not name or not host:
        raise UsageError(f"{option} {text} is not understood: write {option} NAME=HOST, such as {option} n1=10.0.0.1.")
    return name, host.removeprefix("[").removesuffix("]")


def _write(file: Path, text: str, done: Done) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written ({error.strerror}): choose a folder that you may write to."
        ) from None
    done.written.append(str(file))


def _next_steps(config: Config, file: Path, done: Done) -> None:
    here = all(is_loopback(node.host) for node in config.nodes)
    if here:
        done.next = [f"twinstar up --config {file}", "twinstar status", 'psql "$(twinstar dsn)"']
        return
    done.next.append(f"Look through {file}, then copy it to every node.")
    done.next.append(f"Copy {config.secrets} to every node, readable by its owner alone.")
    if config.tls:
        folder = config.tls.authority.parent
        done.next.append(
            f"Copy from {folder} to each node authority.crt and the node's own .crt and .key, to clients "
            "authority.crt; keep authority.key off all of them."
        )
        if config.postgresql.bin_dir is None:
            done.next.append("Set postgresql.bin_dir: the embedded PostgreSQL is built without TLS.")
    done.next.append(
        f"On each node run `twinstar guard --config {file.name} --node NAME`, `twinstar agent` alike, "
        "and `twinstar router` where clients connect; or the units of systemd, which do."
    )
    if config.store.managed:
        done.next.append(
            "On each of them install etcd's program, and run `twinstar store keep --node NAME`; on each witness "
            "that, `twinstar guard` and `twinstar witness`."
        )


def _report(done: Done, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"written": done.written, "kept": done.kept, "next": done.next}, indent=2))
        return
    for path in done.written:
        typer.echo(f"wrote  {path}")
    for path in done.kept:
        typer.echo(f"kept   {path}")
    typer.echo("Next:")
    for step in done.next:
        typer.echo(f"  {step}")
