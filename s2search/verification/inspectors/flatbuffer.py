"""A flatbuffer as dictionaries, by its schema: read, changed, and written again without a loss.

`flatc` prints and reads JSON, which has no exact numbers and no infinities.

Source: "FlatBuffer Internals", https://flatbuffers.dev/internals
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flatbuffers import Builder

#: How `struct` calls the scalar types of schemas.
_SCALARS = {
    "bool": "?",
    "byte": "b",
    "ubyte": "B",
    "short": "h",
    "ushort": "H",
    "int": "i",
    "uint": "I",
    "int64": "q",
    "uint64": "Q",
    "float": "f",
    "double": "d",
}
_COMMENT = re.compile(r"//[^\n]*")
_DECLARED = re.compile(r"\b(table|union|enum)\s+(\w+)\s*(?::\s*(\w+)\s*)?\{([^}]*)\}")
_FIELD = re.compile(r"(\w+)\s*:\s*(\[?)(\w+)\]?[^;]*;")
_ROOT = re.compile(r"root_type\s+(\w+)\s*;")
_IDENTIFIER = re.compile(r'file_identifier\s+"(\w{4})"')

Tree = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What a schema says of tables without default values: a table is a dictionary, and a union the name with it.

    Attributes:
        root: The table of the whole.
        identifier: Four letters of the file.
        tables: Fields in their order, each with its type and whether there are many, by table.
        unions: Tables in their order, by union; of `name: type`, the type.
        scalars: What `struct` calls a type.
    """

    root: str
    identifier: bytes
    tables: Mapping[str, tuple[tuple[str, str, bool], ...]]
    unions: Mapping[str, tuple[tuple[str, str], ...]]
    scalars: Mapping[str, str]

    @classmethod
    def parsed(cls, text: str) -> Schema:
        """Read a schema.

        >>> schema = Schema.parsed('table A {x: uint; ys: [float];} root_type A; file_identifier "AB01";')
        >>> schema.read(schema.write({"x": 3, "ys": [0.5, float("inf")]}))
        {'x': 3, 'ys': [0.5, inf]}
        """
        tables, unions, scalars = {}, {}, dict(_SCALARS)
        plain = _COMMENT.sub("", text)
        for kind, name, base, body in _DECLARED.findall(plain):
            if kind == "table":
                tables[name] = tuple((field, of, bool(many)) for field, many, of in _FIELD.findall(body))
            elif kind == "enum":
                scalars[name] = _SCALARS[base]
            else:
                words = (word.strip().partition(":") for word in body.split(",") if word.strip())
                unions[name] = tuple((member.strip(), (of or member).strip()) for member, _, of in words)
        (root,), (identifier,) = _ROOT.findall(plain), _IDENTIFIER.findall(plain)
        return cls(root=root, identifier=identifier.encode(), tables=tables, unions=unions, scalars=scalars)

    def read(self, data: bytes) -> Tree:
        """Return the root table; what is not stored is zero, empty or None.

        Raises:
            ValueError: Something leads out of the data.
        """
        try:
            return self._table(data, _at("I", data, 0), self.root)
        except struct.error as error:
            raise ValueError(f"a flatbuffer leads out of its {len(data)} bytes: {error}") from error

    def write(self, tree: Tree) -> bytes:
        """Return a file with this root table."""
        from flatbuffers import Builder

        builder = Builder()
        builder.Finish(self._put(builder, self.root, tree), file_identifier=self.identifier)
        return bytes(builder.Output())

    def _slots(self, table: str) -> list[tuple[str, str, bool]]:
        """Return the fields of a table as they are stored: a union has its kind before it."""
        slots = list[tuple[str, str, bool]]()
        for field, of, many in self.tables[table]:
            slots += [(f"{field}_type", "ubyte", False)] if of in self.unions else []
            slots.append((field, of, many))
        return slots

    def _table(self, data: bytes, at: int, table: str) -> Tree:
        entries = at - _at("i", data, at)
        size = _at("H", data, entries)
        found = Tree()
        for slot, (field, of, many) in enumerate(self._slots(table)):
            place = 4 + 2 * slot
            offset = _at("H", data, entries + place) if place < size else 0
            if of in self.unions:
                kind = found.pop(f"{field}_type")
                if kind > len(self.unions[of]):
                    raise ValueError(f"a flatbuffer has a {of} of kind {kind}, and there are {len(self.unions[of])}")
                member, inner = self.unions[of][kind - 1] if kind else ("", "")
                found[field] = (member, self._table(data, _led(data, at + offset), inner)) if kind and offset else None
            elif many:
                found[field] = self._vector(data, _led(data, at + offset), of) if offset else []
            elif of in self.scalars:
                found[field] = _at(self.scalars[of], data, at + offset) if offset else 0
            elif of == "string":
                found[field] = bytes(self._vector(data, _led(data, at + offset), "ubyte")).decode() if offset else ""
            else:
                found[field] = self._table(data, _led(data, at + offset), of) if offset else None
        return found

    def _vector(self, data: bytes, at: int, of: str) -> list[Any]:
        count = _at("I", data, at)
        if of in self.scalars:
            return list(struct.unpack_from(f"<{count}{self.scalars[of]}", data, at + 4))
        if count > len(data):
            raise ValueError(f"a flatbuffer of {len(data)} bytes lists {count} tables")
        return [self._table(data, _led(data, at + 4 + 4 * place), of) for place in range(count)]

    def _put(self, builder: Builder, table: str, tree: Tree) -> int:
        """Write a table behind what it refers to."""
        values = list[tuple[str, Any]]()  # kinds as `struct` has them, none of offsets
        for field, of, many in self.tables[table]:
            value = tree[field]
            if of in self.unions:
                names = [member for member, _ in self.unions[of]]
                member = names.index(value[0]) if value else -1
                values.append(("B", member + 1))
                values.append(("", self._put(builder, self.unions[of][member][1], value[1]) if value else 0))
            elif many:
                values.append(("", self._put_vector(builder, of, value) if value else 0))
            elif of in self.scalars:
                values.append((self.scalars[of], value))
            elif of == "string":
                values.append(("", builder.CreateString(value)))
            else:
                values.append(("", self._put(builder, of, value) if value else 0))
        builder.StartObject(len(values))
        for slot, (kind, value) in enumerate(values):
            if value and kind:
                size = struct.calcsize(kind)
                builder.Prep(size, 0)
                builder.head -= size
                struct.pack_into(f"<{kind}", builder.Bytes, builder.head, value)
                builder.Slot(slot)
            elif value:
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return int(builder.EndObject())

    def _put_vector(self, builder: Builder, of: str, values: list[Any]) -> int:
        if of in self.scalars:
            kind = self.scalars[of]
            size = struct.calcsize(kind)
            builder.StartVector(size, len(values), size)
            builder.head -= size * len(values)
            struct.pack_into(f"<{len(values)}{kind}", builder.Bytes, builder.head, *values)
            return int(builder.EndVector())
        offsets = [self._put(builder, of, one) for one in values]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())


def _at(kind: str, data: bytes, place: int) -> Any:
    if place < 0:
        raise ValueError(f"a flatbuffer leads to {place} bytes before its beginning")
    return struct.unpack_from(f"<{kind}", data, place)[0]


def _led(data: bytes, place: int) -> int:
    """Return where an offset leads."""
    return place + int(_at("I", data, place))
