"""How the matrices of one part of a model are stored and multiplied.

Parts are `stem`, `layers.0` and on, `down`, `up`, `head`, and `text`: the projections of all layers that read text
tokens. Only matrices of linear layers are compressed, and of them those that are large enough; norms, biases, gates,
tables, convolution kernels and products of activations stay float16.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from s2search.errors import InputError

#: A matrix of so many numbers or fewer stays float16 (coremltools' own threshold).
LEAST_NUMBERS = 2048
_HALF_BITS = 16
_BLOB_BYTES = 64  # of weight.bin: a header before every tensor, and tensors begin at multiples of it
_LABEL = re.compile(r"w(4|6|8)(?:g([1-9]\d{0,5}))?a(8|16)")


@dataclass(frozen=True, kw_only=True)
class PartPrecision:
    """The precision of one part.

    Attributes:
        weight_bits: 16, or palettes: every matrix is stored as indices into a table of 2^bits float16 values.
        group: Rows of a matrix that share a table; 0 for one table per matrix.
        activation_bits: 16, or 8: what a matrix is multiplied with is rounded to 256 evenly spaced values first.

    >>> PartPrecision.parse("w4g32a8").label, PartPrecision.parse("float16").label
    ('w4g32a8', 'float16')
    """

    weight_bits: int = 16
    group: int = 0
    activation_bits: int = 16

    @classmethod
    def parse(cls, text: str) -> PartPrecision:
        """Read a precision as people write it.

        Raises:
            InputError: It is none.
        """
        if text == "float16":
            return cls()
        match = _LABEL.fullmatch(text)
        if match is None:
            raise InputError(
                f"{text!r} is not a precision of a part",
                allowed="float16, w4a16, w6a8, w8a16 and the like; w4g32a16 has a table for every 32 rows",
                remedy="correct it",
            )
        return cls(weight_bits=int(match[1]), group=int(match[2] or 0), activation_bits=int(match[3]))

    @property
    def label(self) -> str:
        """The precision as people write it."""
        if self.weight_bits == self.activation_bits == 16:
            return "float16"
        return f"w{self.weight_bits}{f'g{self.group}' if self.group else ''}a{self.activation_bits}"

    @property
    def rounds_inputs(self) -> bool:
        """Whether inputs of matrices are rounded to 8 bits."""
        return self.activation_bits < _HALF_BITS

    def tables(self, rows: int) -> int:
        """Return how many tables a matrix has: one where its rows do not divide into groups."""
        return rows // self.group if self.group and rows % self.group == 0 else 1

    def matrix_bytes(self, rows: int, columns: int) -> int:
        """Return the bytes of a stored matrix with its tables."""
        count = rows * columns
        if self.weight_bits == 16 or count <= LEAST_NUMBERS:
            return blob_bytes(2 * count)
        return blob_bytes(-(-self.weight_bits * count // 8)) + blob_bytes(2 * self.tables(rows) * 2**self.weight_bits)


def blob_bytes(size: int) -> int:
    """Return the bytes that a tensor of some bytes takes in Core ML's file of weights."""
    return _BLOB_BYTES - (-size // _BLOB_BYTES) * _BLOB_BYTES


def kilobytes(size: int) -> str:
    """Return bytes so that budgets of small models can be told apart.

    >>> kilobytes(512_340)
    '512.3 kB'
    """
    return f"{size / 1e3:,.1f} kB" if size < 10**8 else f"{size / 1e6:,.1f} MB"


def part_of(name: str) -> str:
    """Return the part that a linear layer of the model belongs to.

    >>> [part_of(name) for name in ("layers.3.attention.query", "layers.3.cross_attention.key", "stem.time.0")]
    ['layers.3', 'text', 'stem']
    """
    words = name.split(".")
    if words[0] == "text" or ("cross_attention" in words and words[-1] in ("key", "value")):
        return "text"
    return ".".join(words[:2]) if words[0] == "layers" else words[0]


def parts_in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the parts of linear layers in their order, those that serve all layers last."""
    parts = dict.fromkeys(part_of(name) for name in names)
    return tuple(
        sorted(parts, key=lambda part: ("stem", "layers", "down", "up", "head", "text").index(part.split(".")[0]))
    )


def package_precision(parts: Iterable[PartPrecision]) -> str:
    """Return the precision by which a package of such parts goes: the fewest bits of any, of weights and activations.

    >>> package_precision([PartPrecision.parse("w4g32a16"), PartPrecision.parse("w8a16")])
    'w4a16'
    """
    found = tuple(parts)
    weights, activations = min(part.weight_bits for part in found), min(part.activation_bits for part in found)
    return PartPrecision(weight_bits=weights, activation_bits=activations).label
