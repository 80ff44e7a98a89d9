"""The streaming state: one immutable tree of everything that the next chunk depends on, beside weights and prompt.

A step makes a new state and leaves the old one as it is, so a state may be kept, forked (use it twice) and saved in the
middle of a stream; what follows is bit-equal. Noise is drawn from the seed and the number of the chunk alone.

A state goes on only as the stream that it is of: its header names all that it fixes, and what differs is refused.
Why, and what happens to states of before: docs/decisions/streaming.md, "A state names all that it fixes".
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
import torch
from safetensors import safe_open
from torch import Tensor

from s2search.block import LinearState, RingState, Window
from s2search.codec.base import Cache
from s2search.cost import CommitPolicy
from s2search.document import check_writable
from s2search.errors import InputError
from s2search.network.network import LayerStates
from s2search.network.random_weights import RandomS2DiT
from s2search.network.weight_file import save_tensors, weights_digest
from s2search.streaming.as_trained import check_shape
from s2search.streaming.base import StreamingModel
from s2search.streaming.header import Header, codec_of, format_name


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamState:
    """What a stream remembers: every layer's state, the decoder's cache, and where its noise stands.

    Attributes:
        header: What it is of, and where it stands.
        layers: Of every layer.
        decoder: The codec's cache.
        model: The one that it was started with; `save` writes the digest of its weights.
    """

    header: Header
    layers: LayerStates
    decoder: Cache | None = None
    model: StreamingModel | None = field(default=None, repr=False)

    @classmethod
    def start(
        cls,
        model: StreamingModel,
        grid: tuple[int, int],
        *,
        seed: int = 0,
        batch: int = 1,
        first: int = 0,
        window: Window | None = None,
        dtype: torch.dtype | None = None,
        codec: str | None = None,
        text: str | None = None,
    ) -> Self:
        """Return the state before the first chunk, on the model's device.

        Args:
            model: Whose stream.
            grid: Token rows and columns.
            seed: Of all noise.
            batch: Streams side by side.
            first: Number of the first one, of streams that are run in several batches.
            window: By default the preset's.
            dtype: Of keys, values and tails, by default the weights'.
            codec: What decodes the latents, as people write it: kept for whoever goes on.
            text: What encodes the prompts; likewise.

        Raises:
            InputError: The weights were trained to stream with another window.
        """
        check_shape(model.config, window=window)
        window = window or model.config.preset.window
        weight = next(model.parameters())
        header = Header(
            model=model.config.digest,
            batch=batch,
            grid=grid,
            window=window,
            seed=seed,
            first=first,
            frames=0,
            dtype=format_name(dtype or weight.dtype),
            codec=codec,
            text=text,
        )
        layers = model.initial_state(batch, grid, weight.device, dtype, window=window)
        return cls(header=header, layers=layers, model=model)

    @property
    def transformer_bytes(self) -> int:
        """Bytes of all layers' states, each storage counted once."""
        storages = (tensor.untyped_storage() for _, tensor in _tensors(self.layers))
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def after(
        self,
        layers: LayerStates,
        frames: int,
        *,
        schedule: tuple[float, ...] | None = None,
        commit: CommitPolicy | None = None,
        flow_level: float | None = None,
    ) -> Self:
        """Return the state with one chunk more, of so many latent frames, and how it was sampled and committed."""
        header = dataclasses.replace(
            self.header,
            chunks=self.header.chunks + 1,
            frames=None if self.header.frames is None else self.header.frames + frames,
            schedule=schedule or self.header.schedule,
            commit=commit or self.header.commit,
            flow_level=self.header.flow_level if schedule is None else flow_level,
        )
        return dataclasses.replace(self, layers=layers, header=header)

    def noise(self, device: torch.device) -> tuple[torch.Generator, ...]:
        """Return the generators of the next chunk's noise, one per stream, the same however the streams came here.

        A stream's noise does not depend on how many run beside it: the first one's is that of a stream alone.
        """
        first = self.header.first
        return tuple(self._generator(device, number) for number in range(first, first + self.header.batch))

    def _generator(self, device: torch.device, number: int) -> torch.Generator:
        words = f"{self.header.seed} {self.header.chunks}" + (f" {number}" if number else "")
        seed = int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "little", signed=True)
        return torch.Generator(device).manual_seed(seed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as one safetensors file, all or nothing, with the digest of the model's weights as they are now.

        Raises:
            InputError: It cannot be written there.
        """
        check_writable(Path(path))
        header = self.header
        if self.model is not None:
            header = dataclasses.replace(header, weights=self.model.weights_digest())
        tensors = {name: tensor.contiguous() for name, tensor in _tensors(self.layers)}
        decoder = {} if self.decoder is None else self.decoder.named_tensors()
        tensors |= {f"decoder:{name}": tensor.contiguous() for name, tensor in decoder.items()}
        header = dataclasses.replace(header, codec=header.codec or codec_of(decoder))  # what `read` finds
        header = dataclasses.replace(header, digest=_digest(header, tensors))
        partial = Path(path).with_name(f".{Path(path).name}.partial")
        save_tensors(tensors, partial, {"header": msgspec.json.encode(header).decode()})
        partial.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: StreamingModel, *, dtype: torch.dtype | None = None) -> Self:
        """Read the state of a model's stream, onto the model's device.

        Args:
            path: The file.
            model: With the weights that the state was made with.
            dtype: Of keys, values and tails, by default the weights'.

        Raises:
            InputError: The file cannot be read, is no such state or one that was changed, or is of another model, of
                other weights or in another number format.
        """
        header, weight, name = Header.read(path), next(model.parameters()), f"the state {str(path)!r}"
        header.check(name=name, dtype=format_name(dtype or weight.dtype))
        if header.model != model.config.digest:
            raise InputError(
                f"{name} belongs to the model {header.model[:19]}, not to {model.config.digest[:19]}",
                remedy="load the weights that it was made with",
            )
        check_shape(model.config, window=header.window)
        _check_weights(header, model, name)
        with safe_open(path, framework="pt", device=str(weight.device)) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        # Older files have neither frames nor a digest.
        if header.digest != (None if header.frames is None else _digest(header, tensors)):
            raise InputError(f"{name} was changed since it was saved", remedy="take a copy as it was saved")
        decoder = {name: tensors.pop(name) for name in list(tensors) if name.startswith("decoder:")}
        empty = model.initial_state(header.batch, header.grid, "meta", dtype, window=header.window)
        _check_tensors(tensors | decoder, dict(_tensors(empty)), name)
        layers = _filled(empty, "layers", tensors, header)
        _check_frames(layers, header, name)
        if tensors:
            raise InputError(f"{str(path)!r} has the unknown tensor {min(tensors)!r}", remedy="save the state again")
        cache = {name.removeprefix("decoder:"): tensor for name, tensor in decoder.items()}
        return cls(
            header=header, layers=layers, decoder=Cache.from_named_tensors(cache) if cache else None, model=model
        )


def _digest(header: Header, tensors: Mapping[str, Tensor]) -> str:
    """Return the digest of a whole state: of its header, and of every tensor's name, format, shape and bytes."""
    content = msgspec.to_builtins(dataclasses.replace(header, digest=weights_digest(tensors.items())))
    for later in ("first", "flow_level"):  # without them, states of before keep their digest
        if getattr(header, later) == header.__dataclass_fields__[later].default:
            content.pop(later)
    return f"sha256:{hashlib.sha256(msgspec.json.encode(content)).hexdigest()}"


def _check_tensors(tensors: Mapping[str, Tensor], empty: Mapping[str, Tensor], name: str) -> None:
    """Raise unless all numbers are finite and all shapes those of an empty state, axes of the past left aside."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(f"{key!r} of {name} has numbers that are not finite", remedy="start another stream")
        own, expected = tuple(tensor.shape), tuple(empty[key].shape) if key in empty else None
        # An empty state has 0 where the past's frames or chunks are counted.
        if expected is not None and (
            len(own) != len(expected) or any(b not in (a, 0) for a, b in zip(own, expected, strict=True))
        ):
            raise InputError(f"{key!r} of {name} has shape {own}, not {expected}", remedy="take a copy as it was saved")


def _check_frames(layers: LayerStates, header: Header, name: str) -> None:
    """Raise unless every layer remembers the frames, or the chunks, that the window keeps of the stream so far."""
    window = header.window
    for state in _parts(layers):
        if isinstance(state, RingState):
            kept, unit, past = state.keys_BTHWAK.shape[1], "frames", header.frames
            length = 1
        elif isinstance(state, LinearState) and state.chunk_frames is not None and state.sum_BCAKK is not None:
            kept, unit, past = state.sum_BCAKK.shape[1], "chunks", header.chunks
            length = state.chunk_frames
        else:
            continue
        most = past if window.frames is None else -(-window.frames // length) - (-window.sink_frames // length)
        due = most if past is None or most is None else min(past, most)
        if due is not None and (kept > due or (kept != due and past is not None)):
            raise InputError(
                f"a layer of {name} remembers {kept} {unit}, not {due}",
                remedy="take a copy as it was saved",
            )


def _check_weights(header: Header, model: StreamingModel, name: str) -> None:
    """Raise unless the weights are those that the state was made with."""
    own = model.weights_digest()
    if header.weights is not None and header.weights != own:
        raise InputError(
            f"{name} was made with the weights {header.weights[:19]}, not with {own[:19]}",
            remedy=f"load the weights that it was made with (where they were random: --seed {header.seed})",
        )
    # An older state names no weights. `stream` drew random ones from the seed that the state does name.
    if header.weights is None and own != _random_weights_digest(model, header.seed):
        raise InputError(
            f"{name} is of an older s2search and does not name its weights, and these are not the random ones of its "
            f"seed {header.seed}",
            remedy="start another stream: only with random weights can such a state be checked",
        )


def _random_weights_digest(model: StreamingModel, seed: int) -> str:
    dtype = next(model.parameters()).dtype
    return weights_digest((name, tensor.to(dtype)) for name, tensor in RandomS2DiT(model.config, seed=seed).drawn())


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


def _parts(tree: Any) -> Iterator[Any]:
    """Yield the dataclasses of a tree of tuples and dataclasses."""
    if isinstance(tree, tuple):
        for item in tree:
            yield from _parts(item)
    elif dataclasses.is_dataclass(tree):
        yield tree
        for field in dataclasses.fields(tree):
            yield from _parts(getattr(tree, field.name))


def _filled(tree: Any, name: str, tensors: dict[str, Tensor], header: Header) -> Any:
    """Return the tree with its tensors replaced by the named ones, which are taken out of the dictionary."""
    if isinstance(tree, Tensor):
        if name not in tensors:
            raise InputError(f"the stream's state lacks {name!r}", remedy="save the state again")
        if tensors[name].dtype != tree.dtype:
            kinds = (format_name(tensors[name].dtype), format_name(tree.dtype))
            raise InputError(f"{name!r} of the stream's state is {kinds[0]}, not {kinds[1]}", remedy="save it again")
        return tensors.pop(name)
    if isinstance(tree, tuple):
        return tuple(_filled(item, f"{name}.{index}", tensors, header) for index, item in enumerate(tree))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = [field.name for field in dataclasses.fields(tree)]
        filled = {key: _filled(getattr(tree, key), f"{name}.{key}", tensors, header) for key in fields}
        counts_chunks = isinstance(tree, LinearState) and tree.sum_BCAKK is not None and not tree.sum_BCAKK.shape[1]
        if counts_chunks and header.window.frames is not None and header.chunks and header.frames is not None:
            filled["chunk_frames"] = header.frames // header.chunks  # the same of all chunks, or none was committed
        return dataclasses.replace(tree, **filled)
    return tree
