"""Says in one sentence what pydantic found wrong: the key's path, what is wrong with it, what to write instead."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from twinstar.config.schema import Config

_UNITS = {"_ms": ("milliseconds", "10000"), "_bytes": ("bytes", "16777216"), "port": ("a port number", "5432")}


def complaint(error: ValidationError) -> str:
    """The first mistake (unknown keys first: they are often the cause of a missing one), and how many there are."""
    own = [each for each in error.errors() if each["type"] != "default_factory_not_called"]  # follows from another one
    found = sorted(own, key=lambda e: e["type"] != "extra_forbidden")
    more = f" ({len(found) - 1} more after this one)" if len(found) > 1 else ""
    return _sentence(found[0]) + more


def path_of(location: tuple[int | str, ...]) -> str:
    """``nodes[0].port`` for ``("nodes", 0, "port")``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _sentence(error: ErrorDetails) -> str:
    key, kind, context = path_of(error["loc"]), error["type"], error.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return _unknown(error["loc"])
        case "missing":
            return f"`{key}` is missing: add it{_example(key)}."
        case "greater_than_equal" | "less_than_equal":
            bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
            return f"`{key}` is {error['input']!r}: it must be {bound}{_unit(key)}."
        case "int_type" | "int_parsing" | "int_from_float":
            return (
                f"`{key}` must be a whole number{_unit(key, ' of')}, not {error['input']!r}: write it{_example(key)}."
            )
        case "literal_error" | "enum":
            return f"`{key}` is {error['input']!r}: it must be {context['expected']}."
        case "string_pattern_mismatch":
            return f"`{key}` is {error['input']!r}: {_pattern(key)}."
        case "bool_type":
            return f"`{key}` must be true or false, not {error['input']!r}."
        case "too_short":
            return f"`{key}` is empty: it needs at least {context['min_length']}."
        case "too_long":
            return f"`{key}` has {context['actual_length']} entries: at most {context['max_length']} are possible."
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"`{key}` must be a mapping of keys to values, not {error['input']!r}: indent its keys below it."
        case "tuple_type":
            return f"`{key}` must be a list, not {error['input']!r}: write each entry on a line that begins with `- `."
        case _:
            what = error["msg"][:1].lower() + error["msg"][1:]
            return f"`{key}` is wrong, {what}: correct it (docs/configuration.md explains each key)."


def _unit(key: str, joint: str = "") -> str:
    name = key.rpartition(".")[2]
    return next((f"{joint} {unit}" for end, (unit, _) in _UNITS.items() if end != "port" and name.endswith(end)), "")


def _example(key: str) -> str:
    name = key.rpartition(".")[2]
    return next((f", such as {text}" for end, (_, text) in _UNITS.items() if name.endswith(end)), "")


def _pattern(key: str) -> str:
    if key == "cluster":
        return "use up to 40 small letters, digits, `_` and `-`, beginning with a letter"
    return "use up to 31 small letters, digits and `_`, beginning with a letter"


def _unknown(location: tuple[int | str, ...]) -> str:
    section, name = _section_at(location[:-1]), str(location[-1])
    fields = list(section.model_fields) if section else []
    near = _nearest(name, fields)
    hint = f"did you mean `{near}`?" if near else f"known here are {', '.join(f'`{f}`' for f in fields)}."
    return f"`{path_of(location)}` is not a known key: {hint}"


def _nearest(name: str, fields: list[str]) -> str | None:
    """The likeliest field; one that differs by its unit alone comes first (``lease_s`` → ``lease_ms``)."""
    stem = name.rpartition("_")[0] or name
    same_stem = [field for field in fields if field.rpartition("_")[0] in (stem, name)]
    close = same_stem or difflib.get_close_matches(name.lower(), fields, n=1, cutoff=0.6)
    return close[0] if close else None


def _section_at(location: tuple[int | str, ...]) -> type[BaseModel] | None:
    section: type[BaseModel] | None = Config
    for part in location:
        if isinstance(part, str) and section:
            field = section.model_fields.get(part)
            section = _model_in(field.annotation) if field else None
    return section


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for model in map(_model_in, get_args(annotation)) if model), None)
