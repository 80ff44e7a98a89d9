"""The streaming state: one immutable tree of everything that the next chunk depends on, beside weights and prompt.

A step makes a new state and leaves the old one as it is, so a state may be kept, forked (use it twice) and saved in the
middle of a stream; what follows is bit-equal. Noise is drawn from the seed and the number of the chunk alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from s2search.block import Window
from s2search.codec.base import Cache
from s2search.document import check_writable
from s2search.errors import CheckError, InputError
from s2search.network.network import LayerStates
from s2search.streaming.base import StreamingModel

_SCHEMA: Literal["s2search.stream_state/1"] = "s2search.stream_state/1"


@dataclass(frozen=True, kw_only=True)
class Header:
    """The part of a state that is no tensor, and from which an empty state of the same kind can be made.

    Attributes:
        schema: Of the file form.
        model: Digest of the model's config.
        batch: B.
        grid: Token rows and columns of the high stream.
        window: Past frames that softmax attention sees.
        seed: Of all noise.
        chunks: How many have been committed.
    """

    schema: Literal["s2search.stream_state/1"] = _SCHEMA
    model: str
    batch: int
    grid: tuple[int, int]
    window: Window
    seed: int
    chunks: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamState:
    """What a stream remembers: every layer's state, the decoder's cache, and where its noise stands."""

    header: Header
    layers: LayerStates
    decoder: Cache | None = None

    @classmethod
    def start(
        cls,
        model: StreamingModel,
        grid: tuple[int, int],
        *,
        seed: int = 0,
        batch: int = 1,
        window: Window | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Return the state before the first chunk, on the model's device.

        Args:
            model: Whose stream.
            grid: Token rows and columns.
            seed: Of all noise.
            batch: Streams side by side.
            window: By default the preset's.
            dtype: Of keys, values and tails, by default the weights'.
        """
        window = window or model.config.preset.window
        device = next(model.parameters()).device
        header = Header(model=model.config.digest, batch=batch, grid=grid, window=window, seed=seed)
        return cls(header=header, layers=model.initial_state(batch, grid, device, dtype, window=window))

    @property
    def transformer_bytes(self) -> int:
        """Bytes of all layers' states, each storage counted once."""
        storages = (tensor.untyped_storage() for _, tensor in _tensors(self.layers))
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def after(self, layers: LayerStates) -> Self:
        """Return the state with one chunk more."""
        return dataclasses.replace(
            self, layers=layers, header=dataclasses.replace(self.header, chunks=self.header.chunks + 1)
        )

    def noise(self, device: torch.device) -> torch.Generator:
        """Return the generator of the next chunk's noise: the same however the stream came here."""
        words = f"{self.header.seed} {self.header.chunks}".encode()
        seed = int.from_bytes(hashlib.sha256(words).digest()[:8], "little", signed=True)
        return torch.Generator(device).manual_seed(seed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as one safetensors file, all or nothing.

        Raises:
            InputError: It cannot be written there.
        """
        check_writable(Path(path))
        tensors = {name: tensor.contiguous() for name, tensor in _tensors(self.layers)}
        decoder = {} if self.decoder is None else self.decoder.named_tensors()
        tensors |= {f"decoder:{name}": tensor.contiguous() for name, tensor in decoder.items()}
        partial = Path(path).with_name(f".{Path(path).name}.partial")
        save_file(tensors, partial, metadata={"header": msgspec.json.encode(self.header).decode()})
        partial.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: StreamingModel) -> Self:
        """Read the state of a model's stream, onto the model's device.

        Raises:
            InputError: The file cannot be read, or is no such state.
            CheckError: It is the state of another model.
        """
        device = next(model.parameters()).device
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                header = msgspec.json.decode((file.metadata() or {}).get("header", ""), type=Header)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, msgspec.DecodeError) as error:
            raise InputError(
                f"{str(path)!r} is not a stream's state: {error}", remedy="name a file that --state-out wrote"
            ) from error
        if header.model != model.config.digest:
            raise CheckError(
                f"the state {str(path)!r} belongs to the model {header.model[:19]}, not to {model.config.digest[:19]}",
                remedy="load the weights that it was made with",
            )
        decoder = {name: tensors.pop(name) for name in list(tensors) if name.startswith("decoder:")}
        empty = model.initial_state(header.batch, header.grid, "meta", window=header.window)
        layers = _filled(empty, "layers", tensors)
        if tensors:
            raise InputError(f"{str(path)!r} has the unknown tensor {min(tensors)!r}", remedy="save the state again")
        cache = {name.removeprefix("decoder:"): tensor for name, tensor in decoder.items()}
        return cls(header=header, layers=layers, decoder=Cache.from_named_tensors(cache) if cache else None)


def _tensors(tree: Any, name: str = "layers") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a tree of tuples and frozen dataclasses, by their places in it."""
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, tuple):
        for index, item in enumerate(tree):
            yield from _tensors(item, f"{name}.{index}")
    elif dataclasses.is_dataclass(tree):
        for field in dataclasses.fields(tree):
            yield from _tensors(getattr(tree, field.name), f"{name}.{field.name}")


def _filled(tree: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return the tree with its tensors replaced by the named ones, which are taken out of the dictionary."""
    if isinstance(tree, Tensor):
        if name not in tensors:
            raise InputError(f"the stream's state lacks {name!r}", remedy="save the state again")
        return tensors.pop(name)
    if isinstance(tree, tuple):
        return tuple(_filled(item, f"{name}.{index}", tensors) for index, item in enumerate(tree))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = [field.name for field in dataclasses.fields(tree)]
        return dataclasses.replace(
            tree, **{key: _filled(getattr(tree, key), f"{name}.{key}", tensors) for key in fields}
        )
    return tree
