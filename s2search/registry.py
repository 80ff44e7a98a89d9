"""Plugins are found by entry point: group -> name -> class.

Nothing is registered by importing it: the built-in blocks, tables, solvers and profilers enter through the same
door as a third party's. A plugin is a frozen keyword-only dataclass that extends its family's base, and every base
extends `Plugin`; its constructor is its configuration, and it is written `name` or `name[option=value,...]`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import tomllib
import types
import typing
from collections.abc import Callable, Hashable
from functools import cache
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from s2search.border.regular_file import exists, is_file
from s2search.errors import InputError, PluginError, S2SearchError, UnknownNameError, extras_named

FAMILIES = {
    "blocks": "block",
    "parts": "part",
    "tables": "table collection",
    "latency_models": "latency model",
    "scores": "score",
    "qualities": "quality",
    "solvers": "solver",
    "profilers": "profiler",
    "readers": "reader",
    "texts": "text encoder",
    "codecs": "codec",
    "exporters": "exporter",
    "inspectors": "inspector",
    "sources": "source of clips",
    "trainers": "trainer",
    "teachers": "teacher",
}

_OWN = ("s2search", "s2search_blocks", "latency_tables")
_SCALARS = (bool, int, float, str, type(None))
_WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "text", type(None): "null"}


class _InstalledName:
    """Reads as the name of the entry point behind the class that it is asked of."""

    def __get__(self, plugin: object, cls: type) -> str:
        return _installed_name(typing.cast(Hashable, cls))


class Plugin:
    """What every plugin can say of itself, however it was made.

    Attributes:
        name: Its entry point's, also where Python made it from the class. A class that no distribution offers has its
            own name in small letters, and may state another.

    >>> plugin = create("latency_models", "transfer[known=h100+amd-epyc]")
    >>> plugin.name, plugin.options_text, plugin.label
    ('transfer', 'known=h100+amd-epyc', 'transfer[known=h100+amd-epyc]')
    >>> create("solvers", "dynamic[hand_over_s=30]").label
    'dynamic'
    """

    name: ClassVar[str] = _InstalledName()  # type: ignore[assignment]  # it is a str wherever it is read

    @property
    def options(self) -> dict[str, Any]:
        """The options that differ from their defaults; without those that `repr` hides, such as a password."""
        fields = [field for field in dataclasses.fields(self) if field.init and field.repr]  # type: ignore[arg-type]
        found = {field.name: (getattr(self, field.name), _default(field)) for field in fields}
        return {name: value for name, (value, default) in found.items() if value != default}

    @property
    def options_text(self) -> str:
        """The options as people write them, such as `gate=false,rope_order=post`; empty for the defaults."""
        return ",".join(f"{name}={_as_option(value)}" for name, value in self.options.items())

    @property
    def label(self) -> str:
        """The plugin as people write it: its name, with the options that are not the defaults."""
        return label_of(self.name, self.options_text)


def label_of(name: str, options_text: str) -> str:
    """Write a plugin's name with its options.

    >>> label_of("lcha", "gate=false"), label_of("lcha", "")
    ('lcha[gate=false]', 'lcha')
    """
    return f"{name}[{options_text}]" if options_text else name


@cache
def _installed_name(cls: Hashable) -> str:
    """Return the name of a class's entry point, else its own in small letters. Nothing is imported to find it."""
    own = typing.cast(type, cls)
    for entry in _entries():
        if entry.attr == own.__qualname__:
            shown_by = getattr(sys.modules.get(entry.module), entry.attr, None)
            if entry.module == own.__module__ or shown_by is own:
                return entry.name
    return own.__name__.lower()


@cache
def _entries() -> tuple[EntryPoint, ...]:
    found = metadata.entry_points()  # once: it reads the metadata of every installed distribution
    groups = [f"s2search.{family}" for family in FAMILIES]
    return tuple(entry for group in groups for entry in (*found.select(group=group), *_of_checkout(group)))


@cache
def installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of one family by name, for example `installed("solvers")`.

    Where two distributions offer a name, neither may win by chance: `load` refuses that name, and no other.
    """
    found: dict[str, EntryPoint] = {}
    for entry in (entry for entry in _entries() if entry.group == f"s2search.{group}"):
        found.setdefault(entry.name, entry)
    return found


def distribution_of(entry: EntryPoint) -> str:
    """Return the name and version of the distribution that offers a plugin."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"


def at_fault(error: BaseException) -> str:
    """Return in words which plugin of a third party an exception comes from; empty where it comes from none."""
    trace, modules = error.__traceback__, list[str]()
    while trace is not None:
        modules.append(str(trace.tb_frame.f_globals.get("__name__")))
        trace = trace.tb_next
    for entry in _entries():
        package = entry.module.partition(".")[0]
        if package not in _OWN and any(module.partition(".")[0] == package for module in modules):
            family = FAMILIES[entry.group.removeprefix("s2search.")]
            return f"the {family} {entry.name!r} of {distribution_of(entry)}"
    return ""


def _refuse_clash(group: str, name: str) -> None:
    entries = {entry.value: entry for entry in _entries() if (entry.group, entry.name) == (f"s2search.{group}", name)}
    if len(entries) > 1:
        told = sorted(f"{value} of {distribution_of(entry)}" for value, entry in entries.items())
        others = [entry for entry in entries.values() if entry.module.partition(".")[0] not in _OWN]
        names = sorted({entry.dist.name for entry in others if entry.dist})
        raise PluginError(
            f"two {FAMILIES[group]} plugins are called {name!r}: {' and '.join(told)}",
            remedy=f"uninstall one: pip uninstall {' or '.join(names) or 'one of them'}",
            name=name,
        )


def load(group: str, name: str) -> Any:
    """Import and return the object behind one entry point.

    Raises:
        UnknownNameError: No such name is installed.
        MissingExtraError: It needs a library that comes with an extra.
        PluginError: It is installed but cannot be imported, or two distributions offer the name.
    """
    entries = installed(group)
    if name not in entries:
        raise UnknownNameError(FAMILIES[group], name, entries)
    _refuse_clash(group, name)
    try:
        with extras_named():
            return entries[name].load()
    except S2SearchError:
        raise
    except (Exception, SystemExit) as error:  # whatever a module does as it is imported
        raise PluginError(
            f"the {FAMILIES[group]} {name!r} ({entries[name].value} of {distribution_of(entries[name])}) "
            f"cannot be loaded: {type(error).__name__}: {error}",
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


def create_or_load(
    group: str, name_or_file: str | os.PathLike[str], from_file: Callable[[Any], Any], error: type[InputError]
) -> Any:
    """Build an installed plugin as it is written, or load the one that a JSON file holds; what is no text is a file.

    Args:
        group: The family.
        name_or_file: Either.
        from_file: How this family's files are read.
        error: What to raise where the text means both.

    Raises:
        InputError: The text means an installed plugin and a file as well, or neither.
    """
    if not isinstance(name_or_file, str):
        return from_file(name_or_file)
    path, known, family = Path(name_or_file), name_or_file in installed(group), FAMILIES[group]
    if known and is_file(path):
        raise error(
            f"{name_or_file!r} is a file here, and also an installed {family}",
            remedy=f"write .{os.sep}{name_or_file} for the file, or rename it for the installed one",
        )
    if name_or_file.endswith(".json") or (exists(path) and not known):
        return from_file(name_or_file)
    return create(group, name_or_file)


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
        if (key := key.strip()) in options:
            raise InputError(f"{text!r} gives the option {key!r} twice", remedy="write it once", value=text)
        options[key] = value.strip()
    return match[1], options


def build(cls: type[Any], options: dict[str, Any], *, described_as: str) -> Any:
    """Construct a dataclass from options given as text, checking their names and types.

    Raises:
        InputError: An option does not exist or is missing, or its value has the wrong type.
    """
    known = {field.name: field for field in dataclasses.fields(cls) if field.init}
    hints = _hints(typing.cast(Hashable, cls))
    for key, value in options.items():
        if key not in known:
            raise UnknownNameError(f"option of {described_as}", key, known, listed_as="its options")
        _check(value, known[key], hints[key], described_as)
    for key, field in known.items():
        if key not in options and _default(field) is dataclasses.MISSING:
            raise InputError(
                f"{described_as} needs the option {key!r}",
                allowed=f"allowed: {_allowed(hints[key])}",
                remedy=f"write [{key}=...] after its name",
            )
    try:
        return msgspec.convert(options, cls, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"{described_as} cannot take {options}: {error}", remedy="correct the option") from error


def own_version() -> str:
    """Return the version of s2search, installed or not."""
    checkout = _checkout()
    return metadata.version("s2search") if checkout is None else str(checkout["version"])


@cache
def _checkout() -> dict[str, Any] | None:
    """Return the project that pyproject.toml describes, where s2search runs from a checkout that is not installed.

    Then there is no metadata to ask, and `PYTHONPATH=CHECKOUT` suffices: what the wheel would declare is read from
    where the wheel would get it.
    """
    try:
        metadata.distribution("s2search")
    except metadata.PackageNotFoundError:
        root = Path(__file__).parents[1]
        sys.path.append(str(root / "blocks"))
        return typing.cast(dict[str, Any], tomllib.loads((root / "pyproject.toml").read_text())["project"])
    return None


def _of_checkout(group: str) -> list[EntryPoint]:
    declared = (_checkout() or {}).get("entry-points", {}).get(group, {})
    return [EntryPoint(name, value, group) for name, value in declared.items()]


def _check(value: Any, field: dataclasses.Field[Any], hint: Any, described_as: str) -> None:
    try:
        msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError as error:
        default = _default(field)
        instead = f", or leave it out for {_written(default)}" if isinstance(default, _SCALARS) else ""
        raise InputError(
            f"{described_as} cannot take {field.name}={value}",
            allowed=f"allowed: {_allowed(hint) or error}",
            remedy=f"correct it{instead}",
            option=field.name,
            value=value,
        ) from error


@cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _default(field: dataclasses.Field[Any]) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _allowed(hint: Any) -> str:
    """Return in words what an option of a type may be; nothing where only the check itself can say.

    >>> _allowed(typing.Literal[16, 8]), _allowed(int | None)
    ('16, 8', 'an integer or null')
    """
    members = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(_written(member) for member in members)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(filter(None, map(_allowed, members)))
    return _WORDS.get(hint, "")


def _written(value: Any) -> str:
    """Return a value as it stands in a sentence."""
    return repr(value) if value == "" else _as_option(value)


def _as_option(value: Any) -> str:
    """Return a value as people write it in an option; the inverse of what `build` reads."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
