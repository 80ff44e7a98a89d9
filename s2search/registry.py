"""Plugins are found by entry point: group -> name -> class.

Nothing is registered by importing it: the built-in blocks, tables, solvers and profilers enter through the same
door as a third party's. A plugin is a frozen keyword-only dataclass; its constructor is its configuration, and from
the command line it is written `name` or `name[option=value,...]`.
"""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import msgspec

from s2search.errors import InputError, PluginError, UnknownNameError

FAMILIES = {
    "blocks": "block",
    "parts": "part",
    "tables": "table collection",
    "latency_models": "latency model",
    "scores": "score",
    "solvers": "solver",
    "profilers": "profiler",
    "readers": "reader",
    "texts": "text encoder",
    "codecs": "codec",
    "exporters": "exporter",
}


@cache
def installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of one family by name, for example `installed("solvers")`.

    Raises:
        PluginError: Two distributions offer the same name; neither may win by chance.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"s2search.{group}"):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise PluginError(
                f"two {FAMILIES[group]} plugins are called {entry.name!r}: {other.value} and {entry.value}",
                remedy="uninstall one of them",
                name=entry.name,
            )
    return found


def load(group: str, name: str) -> Any:
    """Import and return the object behind one entry point.

    Raises:
        UnknownNameError: No such name is installed.
        PluginError: It is installed but cannot be imported.
    """
    entries = installed(group)
    if name not in entries:
        raise UnknownNameError(FAMILIES[group], name, entries)
    try:
        return entries[name].load()
    except (ImportError, AttributeError) as error:
        raise PluginError(
            f"the {FAMILIES[group]} {name!r} ({entries[name].value}) cannot be loaded: {error}",
            remedy="reinstall the distribution that offers it, or uninstall it",
            name=name,
        ) from error


def create(group: str, text: str) -> Any:
    """Build a plugin from the way it is written on a command line: `name` or `name[option=value,...]`.

    >>> create("blocks", "lcha[gate=false]").gate
    False
    >>> create("blocks", "lhca")
    Traceback (most recent call last):
    s2search.errors.UnknownNameError: no block is called 'lhca' (did you mean 'lcha'?); installed: ...
    """
    name, options = parse(text)
    return build(load(group, name), options, described_as=f"{FAMILIES[group]} {name!r}")


def parse(text: str) -> tuple[str, dict[str, str]]:
    """Split `name[option=value,...]` into the name and its options.

    >>> parse("lcha[gate=false,rope_order=post]")
    ('lcha', {'gate': 'false', 'rope_order': 'post'})
    """
    match = re.fullmatch(r"\s*([\w.\-]+)\s*(?:\[(.*)\])?\s*", text)
    if match is None:
        raise InputError(f"{text!r} does not name a plugin", remedy="write name or name[option=value,...]", value=text)
    options = {}
    for pair in filter(None, (match[2] or "").split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"{pair!r} in {text!r} is not an option", remedy="write option=value", value=text)
        options[key.strip()] = value.strip()
    return match[1], options


def build(cls: type[Any], options: dict[str, Any], *, described_as: str) -> Any:
    """Construct a dataclass from options given as text, checking their names and types.

    Raises:
        InputError: An option does not exist, or its value has the wrong type.
    """
    known = {field.name for field in dataclasses.fields(cls) if field.init}
    for key in options:
        if key not in known:
            raise UnknownNameError(f"option of {described_as}", key, known)
    try:
        return msgspec.convert(options, cls, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"{described_as} cannot take {options}: {error}", remedy="correct the option") from error
