"""Reads `twinstar.yaml`: every mistake becomes one sentence that names the key, what is wrong, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from twinstar.config.check import check
from twinstar.config.complaint import complaint
from twinstar.config.schema import Config, Store, Tls
from twinstar.model.errors import UsageError


def load(path: Path) -> Config:
    """The checked configuration, relative paths made absolute from the file's own folder. Raises UsageError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"There is no {path}: run `twinstar init` to write one, or name another with --config."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}): make it a readable UTF-8 text file.") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """The checked configuration in `text`; `path` is named in errors and anchors relative paths. Raises UsageError."""
    try:
        config = Config.model_validate(read_yaml(text, path))
    except ValidationError as error:
        raise UsageError(f"{path}: {complaint(error)}") from None
    trouble = check(config)
    if trouble:
        raise UsageError(f"{path}: {trouble}")
    try:
        return anchored(config, path.absolute().parent)
    except RuntimeError as error:  # `~` of nobody
        raise UsageError(f"{path}: a path begins with `~` ({error}): write it in full.") from None


def read_yaml(text: str, path: Path) -> dict[str, Any]:
    """The file as a mapping. Raises UsageError also for a key that stands twice, where YAML would keep the last."""
    try:
        raw = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 (derives from SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{path} is no valid YAML{line} ({error.problem}): correct that line.") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is no valid YAML ({error}): correct it.") from None
    if not isinstance(raw, dict):
        raise UsageError(f"{path} holds no configuration: run `twinstar init` to write one.")
    return raw


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                problem = f"the key `{key.value}` stands there twice"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def anchored(config: Config, folder: Path) -> Config:
    """`config` with each relative path taken from `folder`, so that it means the same from every directory."""

    def at(path: Path) -> Path:
        return folder / path.expanduser()

    def tls_at(tls: Tls | None) -> Tls | None:
        return tls and Tls(certificate=at(tls.certificate), key=at(tls.key), authority=at(tls.authority))

    def store_at(store: Store) -> Store:
        return _store_at(store, at, tls_at)

    nodes = tuple(node.model_copy(update={"directory": at(node.directory)}) for node in config.nodes)
    witnesses = tuple(each.model_copy(update={"directory": at(each.directory)}) for each in config.witnesses)
    changes: dict[str, object] = {
        "secrets": at(config.secrets),
        "store": store_at(config.store),
        "next_store": store_at(config.next_store) if config.next_store else None,
        "nodes": nodes,
        "witnesses": witnesses,
    }
    if config.tls:
        changes["tls"] = tls_at(config.tls)
    if config.postgresql.bin_dir:
        changes["postgresql"] = config.postgresql.model_copy(update={"bin_dir": at(config.postgresql.bin_dir)})
    return config.model_copy(update=changes)


def _store_at(store: Store, at: Callable[[Path], Path], tls_at: Callable[[Tls | None], Tls | None]) -> Store:
    if store.embedded:
        embedded = store.embedded.model_copy(
            update={"socket": at(store.embedded.socket), "file": at(store.embedded.file)}
        )
        store = store.model_copy(update={"embedded": embedded})
    if store.managed and store.managed.program:
        managed = store.managed.model_copy(update={"program": at(store.managed.program)})
        store = store.model_copy(update={"managed": managed})
    for name, remote in (("etcd", store.etcd), ("zookeeper", store.zookeeper)):
        if remote:
            files = {
                "tls": tls_at(remote.tls),
                "password_file": at(remote.password_file) if remote.password_file else None,
            }
            store = store.model_copy(update={name: remote.model_copy(update=files)})
    if store.kubernetes and store.kubernetes.kubeconfig:
        named = store.kubernetes.model_copy(update={"kubeconfig": at(store.kubernetes.kubeconfig)})
        store = store.model_copy(update={"kubernetes": named})
    return store
