"""Options of plugins that cannot be: one line with the option, its value, what is allowed, and the remedy."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from importlib.metadata import EntryPoint
from typing import Literal

import pytest

from s2search import registry
from s2search.errors import InputError, UnknownNameError
from s2search.registry import Plugin
from s2search.solver.dynamic import Dynamic

_OF_TYPE = {bool: "true or false", int: "an integer", float: "a number"}


def classes():
    """Return every installed plugin that has options: its family, its name and its class."""
    for family in registry.FAMILIES:
        for name in registry.installed(family):
            plugin = registry.load(family, name)
            if dataclasses.is_dataclass(plugin):
                yield family, name, plugin


def typed_options():
    for family, name, plugin in classes():
        for option, hint in typing.get_type_hints(plugin).items():
            if option in {field.name for field in dataclasses.fields(plugin)}:
                yield pytest.param(family, name, option, hint, id=f"{family}-{name}-{option}")


def refused(family, text):
    with pytest.raises(InputError) as raised:
        registry.create(family, text)
    line = str(raised.value)
    assert "\n" not in line
    return line


def members(hint):
    """Return the types of a union, or the type itself."""
    return typing.get_args(hint) if type(None) in typing.get_args(hint) else (hint,)


@pytest.mark.parametrize(("family", "name", "option", "hint"), list(typed_options()))
def test_a_wrong_value_is_told_all_that_is_allowed(family, name, option, hint):
    literal = [value for one in members(hint) if typing.get_origin(one) is Literal for value in typing.get_args(one)]
    words = [_OF_TYPE[one] for one in members(hint) if one in _OF_TYPE]
    if not literal and not words:
        return  # any text will do, or what no text can be
    line = refused(family, f"{name}[{option}=no such value]")
    problem, allowed, remedy = line.split("; ", 2)
    assert problem == f"{registry.FAMILIES[family]} {name!r} cannot take {option}=no such value"
    assert allowed.startswith("allowed: ")
    for value in (*literal, *words):
        assert str(value) in allowed
    assert remedy.startswith("correct it")


@pytest.mark.parametrize(("family", "name", "plugin"), list(classes()))
def test_an_option_that_there_is_not_is_told_all_that_there_are(family, name, plugin):
    with pytest.raises(UnknownNameError, match="; its options: ") as raised:
        registry.create(family, f"{name}[no_such_option=1]")
    listed = str(raised.value).rpartition(": ")[2].split(", ")
    assert listed == (sorted(field.name for field in dataclasses.fields(plugin)) or ["none"])


@pytest.mark.parametrize(
    ("family", "text", "line"),
    [
        (
            "exporters",
            "coreml[bits=5]",
            "exporter 'coreml' cannot take bits=5; allowed: 16, 8, 6, 4; correct it, or leave it out for 16",
        ),
        ("exporters", "coreml[bits=]", "exporter 'coreml' cannot take bits=; allowed: 16, 8, 6, 4; "),
        (
            "exporters",
            "coreml[bit=4]",
            "no option of exporter 'coreml' is called 'bit' (did you mean 'bits'?); its options: activations, bits, ",
        ),
        ("exporters", "coreml[group=x]", "cannot take group=x; allowed: an integer; correct it, or leave it out for 0"),
        ("blocks", "lcha[linear_head_dim=x]", "allowed: an integer or null; correct it, or leave it out for null"),
        ("blocks", "lcha[gate=1.5]", "gate=1.5; allowed: true or false; correct it, or leave it out for true"),
        ("exporters", "coreml[bits=4,bits=8]", "'coreml[bits=4,bits=8]' gives the option 'bits' twice; write it once"),
        ("solvers", "nsga2[progress=x]", "cannot take progress=x; allowed: Expected `Callable`, got `str`; correct it"),
        (
            "latency_models",
            "roofline[tops=35]",
            "latency model 'roofline' needs the option 'gbps'; allowed: a number; write [gbps=...] after",
        ),
    ],
)
def test_the_line_says_what_to_write(family, text, line):
    assert line in refused(family, text)


def test_null_and_numbers_are_read_from_text():
    assert registry.create("blocks", "lcha[linear_head_dim=null,decay=0.5]").linear_head_dim is None
    assert registry.create("exporters", "coreml[bits=4,group=32]").bits == 4


@pytest.mark.parametrize(("family", "name", "plugin"), list(classes()))
def test_an_installed_class_knows_its_name_without_being_made_by_it(family, name, plugin):
    assert plugin.name == name
    assert "name" not in vars(plugin), "the entry point names it"


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("blocks", "lcha[gate=false,rope_order=post]"),
        ("latency_models", "lookup"),
        ("latency_models", "transfer[known=h100+amd-epyc]"),
        ("latency_models", "roofline[tops=35.0,gbps=60.5]"),
        ("scores", "published"),
        ("solvers", "dynamic[most_labels=10]"),
        ("solvers", "nsga2[trials=50,study=mine]"),
        ("profilers", "torch_cuda[dtype=float16,graph=false]"),
        ("readers", "hat[device=a phone]"),
        ("texts", "clip[folder=x]"),
        ("codecs", "wan[folder=x]"),
        ("exporters", "coreml[bits=4,group=32]"),
    ],
)
def test_a_label_is_what_one_writes_to_get_the_same_again(family, text):
    made = registry.create(family, text)
    assert made.label == text
    assert registry.create(family, made.label) == made


def test_options_of_a_block_are_sorted_so_that_a_row_has_one_label():
    assert registry.create("blocks", "lcha[rope_order=post,gate=false]").label == "lcha[gate=false,rope_order=post]"


def test_a_label_shows_no_password_and_no_default():
    searching = registry.create("solvers", "nsga2[storage=sqlite:///secret.db,seed=0,population=20]")
    assert searching.label == "nsga2[population=20]"


def test_a_class_that_nobody_offers_has_its_own_name_or_the_one_that_it_states():
    class Quicker(Dynamic):
        """Extends an installed one, which does not make it that."""

    class Named(Dynamic):
        name = "slower"

    assert (Quicker.name, Quicker().name, Named().label) == ("quicker", "quicker", "slower")


def test_a_class_that_another_module_shows_has_the_name_of_that_entry_point(monkeypatch):
    class Thing(Plugin):
        """Defined here, offered as `somebodys_plugins:Thing`."""

    Thing.__qualname__ = "Thing"
    shop = types.ModuleType("somebodys_plugins")
    offered = EntryPoint(name="gadget", value="somebodys_plugins:Thing", group="s2search.solvers")
    monkeypatch.setitem(sys.modules, "somebodys_plugins", shop)
    monkeypatch.setattr(registry, "_entries", lambda: (offered,))
    shop.Thing = type("Thing", (Plugin,), {"__module__": "elsewhere", "__qualname__": "Thing"})
    assert (shop.Thing.name, Thing.name) == ("gadget", "thing")
