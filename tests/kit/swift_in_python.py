"""Runs Swift sources without Swift: a small part of the language, translated to Python line by line.

It is for sources of plain arithmetic, as `S2StreamCore` has it: structs and enums, functions, loops, optionals, and
Decodable by CodingKeys; no closures, no generics; protocols are left out. Values are copied where Swift copies them;
Float is float32; whole numbers divide as such; what traps in Swift (an index outside, a range that runs backwards, a
force unwrapped nil) raises here. What only a compiler sees, types above all, it does not see.

Declarations and statements come from tree-sitter; expressions are parsed here, since that grammar takes
`a * b[c]` for `(a * b)[c]`.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import tree_sitter_swift
from tree_sitter import Language, Node, Parser

_TOKEN = re.compile(
    r"\s*(?://[^\n]*)?\s*(0x[0-9A-Fa-f_]+|\d[\d_]*\.\d+|\d[\d_]*|\"[^\"]*\"|\w+"
    r"|\?\?|\?\.|&&|\|\||\.\.<|&\+|&\*|[=!<>]=|>>|<<|[-+*/%<>=!?:.,()\[\]^|&])"
)
_BINDS = {
    **dict.fromkeys((">>", "<<"), 9),
    **dict.fromkeys(("*", "/", "%", "&*"), 8),
    **dict.fromkeys(("+", "-", "|", "^", "&+"), 7),
    "..<": 6,
    "??": 5,
    **dict.fromkeys(("<", ">", "<=", ">=", "==", "!="), 4),
    "&&": 3,
    "||": 2,
    "?": 1,
}
_ZEROS = {"Float": "Float(0)", "Double": "0.0", "UInt16": "0", "Int": "0"}


def parse(source: bytes) -> Node:
    """Return the tree of a Swift source."""
    return Parser(Language(tree_sitter_swift.language())).parse(source).root_node


def errors(node: Node) -> list[str]:
    """Return the places that are no Swift."""
    own = [f"line {node.start_point[0] + 1}"] if node.is_error or node.is_missing else []
    return own + [error for child in node.children for error in errors(child)]


def load(paths: list[Path]) -> dict[str, Any]:
    """Return what the sources of a module declare, by name."""
    world = dict(_WORLD)
    for path in paths:
        exec(compile(translated(path), f"{path.name} in Python", "exec"), world)
    return world


def translated(path: Path) -> str:
    """Return a source as Python."""
    root = parse(path.read_bytes())
    lines: list[str] = []
    for node in root.children:
        if node.type == "class_declaration":
            lines += _type(node)
        elif node.type == "function_declaration":
            lines += _function(node, {}, "")
        elif node.type not in ("comment", "import_declaration", "protocol_declaration"):
            raise NotImplementedError(node.type)
    return "\n".join(lines) + "\n"


def decoded(world: dict[str, Any], kind: str, value: Any) -> Any:
    """Return a JSON value as JSONDecoder would: by the types of stored properties, keys as CodingKeys say."""
    if kind.endswith("?"):
        return None if value is None else decoded(world, kind[:-1], value)
    if kind.startswith("["):
        return Array(decoded(world, kind[1:-1], one) for one in value)
    if kind in ("Int", "Double", "Bool", "String"):
        assert isinstance(value, {"Int": int, "Double": (int, float), "Bool": bool, "String": str}[kind]), (kind, value)
        return float(value) if kind == "Double" else value
    cls = world[kind]
    if cls.cases:
        return {raw: case for case, raw in cls.cases.items()}[value]
    made = cls.__new__(cls)
    for name, of in cls.stored.items():
        key = cls.keys[name] if cls.keys else name
        setattr(made, name, decoded(world, of, value.get(key) if of.endswith("?") else value[key]))
    return made


# Declarations.


def _type(node: Node) -> list[str]:
    name, body = _child(node, "type_identifier"), node.children[-1]
    stored, members, lines, inits = {}, {}, [], []
    for one in body.children:
        if one.type == "property_declaration":
            static = any(b"static" in modifier.text for modifier in one.children if modifier.type == "modifiers")
            members[_child(one, "pattern")] = name if static else "self"
        elif one.type == "function_declaration":
            members[_child(one, "simple_identifier")] = name if _is_static(one) else "self"
    for one in body.children:
        if one.type == "property_declaration":
            lines += _property(one, members, stored)
        elif one.type == "function_declaration":
            lines += (["@staticmethod"] if _is_static(one) else []) + _function(
                one, members, "" if _is_static(one) else "self"
            )
        elif one.type == "init_declaration":
            inits.append(one)
    for one in inits:
        lines += _function(one, members, "self", name=f"init_{'_'.join(_labels(one))}")
    known = {_init_labels(one): f"init_{'_'.join(_labels(one))}" for one in inits}
    keys = next((_cases(one) for one in body.children if one.type == "class_declaration"), {})
    cases = _cases(node) if body.type == "enum_class_body" else {}
    heads = [f"class {name}(Struct):", f"    stored = {stored!r}", f"    keys = {keys!r}", f"    cases = {cases!r}"]
    return [*heads, f"    inits = {known!r}", *(f"    {line}" for line in lines), ""]


def _cases(node: Node) -> dict[str, str]:
    found = {}
    for entry in node.children[-1].children:
        if entry.type == "enum_entry":
            text = entry.text.decode().removeprefix("case ")
            for one in text.split(","):
                case, _, raw = one.partition("=")
                found[case.strip()] = raw.strip().strip('"') or case.strip()
    return found


def _property(node: Node, members: dict[str, str], stored: dict[str, str]) -> list[str]:
    name, parts = _child(node, "pattern"), {child.type: child for child in node.children}
    if computed := parts.get("computed_property"):
        return ["@property", f"def {name}(self):", *_block(_child_node(computed, "statements"), members, {"self"})]
    if members[name] != "self":
        return [f"{name} = {_expression(_after(node, '='), members, set())}"]
    stored[name] = parts["type_annotation"].text.decode().lstrip(": ").strip()
    return []


def _function(node: Node, members: dict[str, str], first: str, name: str = "") -> list[str]:
    name = name or _child(node, "simple_identifier")
    head, names = [first] if first else [], {first} if first else set()
    children = node.children
    for place, child in enumerate(children):
        if child.type == "parameter":
            *_, own = [one.text.decode() for one in child.children if one.type == "simple_identifier"]
            default = children[place + 1 : place + 3]
            given = default[0].type == "=" if default else False
            head.append(f"{own}={_expression(default[1].text.decode(), {}, set())}" if given else own)
            names.add(own)
    body = _child_node(_child_node(node, "function_body"), "statements")
    return [f"def {name}({', '.join(head)}):", *_block(body, members, names)]


def _labels(node: Node) -> list[str]:
    """Return the labels of a function's arguments, `_` for none."""
    return [child.children[0].text.decode() for child in node.children if child.type == "parameter"]


def _init_labels(node: Node) -> tuple[str, ...]:
    return tuple(label for label in _labels(node) if label != "_")


def _is_static(node: Node) -> bool:
    return any(child.type == "modifiers" and b"static" in child.text for child in node.children)


# Statements.


def _block(node: Node, members: dict[str, str], names: set[str]) -> list[str]:
    names = names | set(_declared(node))
    lines = [line for child in node.children for line in _statement(child, members, names)]
    return [f"    {line}" for line in lines or ["pass"]]


def _declared(node: Node) -> Iterator[str]:
    if node.type in ("property_declaration", "for_statement"):
        pattern = _child_node(node, "pattern")
        yield from re.findall(r"\w+", pattern.text.decode())
    if node.type == "if_statement" and node.children[1].type == "value_binding_pattern":
        yield node.children[2].text.decode()
    for child in node.children:
        yield from _declared(child)


def _statement(node: Node, members: dict[str, str], names: set[str]) -> list[str]:
    def said(text: str) -> str:
        return _expression(text, members, names)

    match node.type:
        case "comment":
            return []
        case "property_declaration":
            value = said(_after(node, "="))
            kind = next((child.text.decode().lstrip(": ") for child in node.children if "annot" in child.type), "")
            value = f"Float({value})" if kind == "Float" else value
            return [f"{_child(node, 'pattern')} = copied({value})"]
        case "assignment":
            target = _Expression(node.children[0].text.decode()).whole()
            return [_assigned(target, f"copied({said(_after(node, '='))})", members, names)]
        case "control_transfer_statement":
            return [f"return copied({said(node.text.decode().removeprefix('return'))})"]
        case "if_statement":
            return _if(node, members, names)
        case "for_statement":
            pattern = _child(node, "pattern")
            pairs = ".items()" if pattern.startswith("(") else ""
            over = said(_between(node, "in", "{"))
            return [f"for {pattern} in {over}{pairs}:", *_block(_child_node(node, "statements"), members, names)]
        case "while_statement":
            condition = said(_between(node, "while", "{"))
            return [f"while {condition}:", *_block(_child_node(node, "statements"), members, names)]
        case "call_expression" | "try_expression":
            return [said(node.text.decode())]
    raise NotImplementedError(f"{node.type}: {node.text.decode()}")


def _if(node: Node, members: dict[str, str], names: set[str]) -> list[str]:
    statements = [child for child in node.children if child.type == "statements"]
    condition = _between(node, "if", "{")
    if binding := re.match(r"\s*let (\w+) = ", condition):
        value = _expression(condition[binding.end() :], members, names - {binding[1]})
        lines = [f"if ({binding[1]} := {value}) is not None:"]
    else:
        lines = [f"if {_expression(condition, members, names)}:"]
    lines += _block(statements[0], members, names)
    if nested := [child for child in node.children if child.type == "if_statement"]:
        lines += ["else:", *(f"    {line}" for line in _if(nested[0], members, names))]
    elif len(statements) > 1:
        lines += ["else:", *_block(statements[1], members, names)]
    return lines


def _assigned(target: tuple[Any, ...], value: str, members: dict[str, str], names: set[str]) -> str:
    match target:
        case ("at", base, index):
            return f"put({_told(base, members, names)}, {_told(index, members, names)}, {value})"
        case ("member", base, name):
            return f"{_told(base, members, names)}.{name} = {value}"
        case ("name", _):
            return f"{_told(target, members, names)} = {value}"
    raise NotImplementedError(str(target))


# Expressions.


def _expression(text: str, members: dict[str, str], names: set[str]) -> str:
    return _told(_Expression(text).whole(), members, names)


class _Expression:
    """A parser by binding strength (Pratt, 1973)."""

    def __init__(self, text: str) -> None:
        self._tokens, place, text = [], 0, re.sub(r"\btry\b", "", text).strip()
        while place < len(text):
            found = _TOKEN.match(text, place)
            if found is None:
                raise NotImplementedError(text[place:])
            self._tokens.append(found[1])
            place = found.end()
        self._place = 0

    def whole(self) -> tuple[Any, ...]:
        found = self._binary(0)
        assert self._place == len(self._tokens), self._tokens[self._place :]
        return found

    def _next(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _take(self, wanted: str = "") -> str:
        token = self._next()
        assert not wanted or token == wanted, (token, wanted, self._tokens)
        self._place += 1
        return token

    def _binary(self, least: int) -> tuple[Any, ...]:
        left = self._prefix()
        while (strength := _BINDS.get(self._next(), -1)) > least or (strength == least == 0):
            operator = self._take()
            if operator == "?":
                first = self._binary(0)
                self._take(":")
                left = ("choice", left, first, self._binary(0))
            else:
                left = ("binary", operator, left, self._binary(strength))
        return left

    def _prefix(self) -> tuple[Any, ...]:
        token = self._take()
        if token in ("-", "!"):
            return ("prefix", token, self._prefix())
        if token == "&":
            return self._prefix()
        if token == "*":
            return ("times",)
        if token == ".":
            return ("case", self._take())
        if token == "(":
            found = self._binary(0)
            self._take(")")
            return self._postfix(found)
        if token == "[":
            return self._postfix(self._literal())
        if token[0] == '"':
            return ("text", token)
        if token[0].isdigit():
            return ("number", token.replace("_", ""))
        return self._postfix(("name", token))

    def _literal(self) -> tuple[Any, ...]:
        if self._next() == ":":
            self._take()
            self._take("]")
            return ("dictionary", [])
        items, pairs = [], []
        while self._next() != "]":
            item = self._binary(0)
            if self._next() == ":":
                self._take()
                pairs.append((item, self._binary(0)))
            else:
                items.append(item)
            if self._next() == ",":
                self._take()
        self._take("]")
        return ("dictionary", pairs) if pairs else ("array", items)

    def _postfix(self, found: tuple[Any, ...]) -> tuple[Any, ...]:
        while True:
            match self._next():
                case ".":
                    self._take()
                    found = ("member", found, self._take())
                case "?.":
                    self._take()
                    found = ("chain", found, self._take())
                case "!":
                    self._take()
                    found = ("forced", found)
                case "(":
                    self._take()
                    found = ("call", found, self._arguments())
                case "[":
                    self._take()
                    found = ("at", found, self._binary(0))
                    self._take("]")
                case _:
                    return found

    def _arguments(self) -> list[tuple[str, tuple[Any, ...]]]:
        given = []
        while self._next() != ")":
            label = ""
            if self._tokens[self._place + 1] == ":":
                label = self._take()
                self._take(":")
            given.append((label, self._binary(0)))
            if self._next() == ",":
                self._take()
        self._take(")")
        return given


_FUNCTIONS = {"/": "divided", "%": "rest", "&+": "plus64", "&*": "times64", "..<": "span"}
_WORDS = {"&&": "and", "||": "or"}


def _told(node: tuple[Any, ...], members: dict[str, str], names: set[str]) -> str:
    def said(one: tuple[Any, ...]) -> str:
        return _told(one, members, names)

    match node:
        case ("name", name):
            if name in names or name not in members:
                return {"nil": "None", "true": "True", "false": "False"}.get(name, name)
            return f"{members[name]}.{name}"
        case ("number" | "text", text):
            return text
        case ("case", name):
            return repr(name)
        case ("times",):
            return "operator_times"
        case ("prefix", operator, one):
            return f"({'not ' if operator == '!' else operator}{said(one)})"
        case ("binary", "??", left, right):
            return f"either({said(left)}, lambda: {said(right)})"
        case ("binary", operator, left, right) if operator in _FUNCTIONS:
            return f"{_FUNCTIONS[operator]}({said(left)}, {said(right)})"
        case ("binary", operator, left, right):
            return f"({said(left)} {_WORDS.get(operator, operator)} {said(right)})"
        case ("choice", condition, first, second):
            return f"({said(first)} if {said(condition)} else {said(second)})"
        case ("array", items):
            return f"Array([{', '.join(map(said, items))}])"
        case ("dictionary", pairs):
            return f"{{{', '.join(f'{said(key)}: {said(value)}' for key, value in pairs)}}}"
        case ("member", base, name):
            return f"member({said(base)}, {name!r})"
        case ("chain", base, name):
            return f"chained({said(base)}, {name!r})"
        case ("forced", one):
            return f"forced({said(one)})"
        case ("at", base, index):
            return f"at({said(base)}, {said(index)})"
        case ("call", ("array", [("name", kind)]), [(_, zero), (_, count)]):
            assert zero == ("number", "0")
            return f"Array([{_ZEROS[kind]}] * {said(count)})"
        case ("call", what, given):
            told = (f"{label}={said(one)}" if label else said(one) for label, one in given)
            return f"{said(what)}({', '.join(told)})"
    raise NotImplementedError(str(node))


# What Swift brings.


class Array(list):
    """Swift's, without indices from the end."""


class Struct:
    stored: dict[str, str]
    keys: dict[str, str]
    cases: dict[str, str]
    inits: dict[tuple[str, ...], str]

    def __init__(self, *given: Any, **labelled: Any) -> None:
        if self.inits:
            name = self.inits[tuple(labelled)] if tuple(labelled) in self.inits else next(iter(self.inits.values()))
            getattr(self, name)(*given, **labelled)
        else:
            assert not given
            assert list(labelled) == list(self.stored)
            self.__dict__.update(labelled)


class Float(np.float32):
    infinity, nan = np.float32(math.inf), np.float32(math.nan)

    def __new__(cls, number: Any = None, *, sign: str = "", exponent: int = 0, significand: Any = 0) -> Any:
        return np.float32(math.ldexp(significand, exponent) if sign else number)


class Double(float):
    pi = math.pi

    def __new__(cls, number: Any = None, *, sign: str = "", exponent: int = 0, significand: Any = 0) -> Any:
        return math.ldexp(significand, exponent) if sign else float(number)


def _whole(bits: int) -> Any:
    def made(number: Any) -> int:
        assert 0 <= number < 2**bits, number
        return int(number)

    return made


def _member(x: Any, name: str) -> Any:
    if isinstance(x, (float, np.floating)):
        return {
            "sign": lambda: "minus" if math.copysign(1, x) < 0 else "plus",
            "isNaN": lambda: math.isnan(x),
            "magnitude": lambda: abs(x),
            "exponent": lambda: math.frexp(x)[1] - 1,
            "rounded": lambda: lambda how: {"toNearestOrEven": lambda: float(round(float(x)))}[how](),
        }[name]()
    if isinstance(x, (list, dict)):
        return {
            "count": lambda: len(x),
            "isEmpty": lambda: not x,
            "contains": lambda: x.__contains__,
            "append": lambda: lambda one: x.append(_copied(one)),
            "sorted": lambda: lambda: Array(sorted(x)),
            "reduce": lambda: lambda first, operation: reduce(operation, x, first),
        }[name]()
    return getattr(x, name)


def _at(x: Any, index: Any) -> Any:
    if isinstance(x, dict):
        return x.get(index)
    assert 0 <= index < len(x), (index, len(x))
    return x[index]


def _put(x: Any, index: Any, value: Any) -> None:
    assert isinstance(x, dict) or 0 <= index < len(x), (index, len(x))
    x[index] = value


def _copied(x: Any) -> Any:
    return copy.deepcopy(x) if isinstance(x, (list, dict, Struct)) else x


def _forced(x: Any) -> Any:
    assert x is not None
    return x


def _divided(a: Any, b: Any) -> Any:
    return int(a / b) if isinstance(a, int) and isinstance(b, int) else a / b


def _rest(a: int, b: int) -> int:
    return a - b * _divided(a, b)


def _span(a: int, b: int) -> range:
    assert a <= b, (a, b)
    return range(a, b)


def _precondition(holds: bool, message: str) -> None:
    assert holds, message


_WORLD: dict[str, Any] = {
    **{"Array": Array, "Struct": Struct, "Float": Float, "Double": Double, "Int": int, "min": min, "max": max},
    **{"UInt16": _whole(16), "UInt64": _whole(64), "exp": math.exp, "log": math.log, "cos": math.cos, "sin": math.sin},
    **{"sqrt": math.sqrt, "member": _member, "at": _at, "put": _put, "copied": _copied, "forced": _forced},
    **{"divided": _divided, "rest": _rest, "span": _span, "precondition": _precondition},
    "chained": lambda x, name: None if x is None else _member(x, name),
    "either": lambda x, other: other() if x is None else x,
    "operator_times": lambda a, b: a * b,
    "plus64": lambda a, b: (a + b) % 2**64,
    "times64": lambda a, b: a * b % 2**64,
}


def _child_node(node: Node, kind: str) -> Node:
    return next(child for child in node.children if child.type == kind)


def _child(node: Node, kind: str) -> str:
    return _child_node(node, kind).text.decode()


def _after(node: Node, token: str) -> str:
    start = next(child.end_byte for child in node.children if child.type == token)
    return node.text[start - node.start_byte :].decode()


def _between(node: Node, first: str, last: str) -> str:
    start = next(child.end_byte for child in node.children if child.type == first)
    end = next(child.start_byte for child in node.children if child.type == last)
    return node.text[start - node.start_byte : end - node.start_byte].decode()
