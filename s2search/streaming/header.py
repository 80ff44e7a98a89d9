"""The header of a stream's state: all that the stream fixes, and where it stands. It can be read without the tensors.

Why, and what happens to states of before: docs/decisions/streaming.md, "A state names all that it fixes".
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Self

import msgspec
import torch
from safetensors import SafetensorError, safe_open

from s2search import registry
from s2search.block import Window
from s2search.border.regular_file import check_regular
from s2search.cost import CommitPolicy
from s2search.errors import InputError
from s2search.preset import video_size

_MOST_TOKENS = 2**31  # a frame: far beyond all video, and far below what counts of bytes hold
_MOST_WRITTEN = 8  # noise levels in a line
_SCHEMA: Literal["s2search.stream_state/1"] = "s2search.stream_state/1"


@dataclass(frozen=True, kw_only=True)
class Header:
    """The part of a state that is no tensor: all that the stream fixes, and where it stands.

    Files of before the optional fields lack them. An empty state of the same kind can be made from it.

    Attributes:
        schema: Of the file form.
        model: Digest of the model's config.
        batch: B.
        grid: Token rows and columns of the high stream.
        window: Past frames that softmax attention sees.
        seed: Of all noise.
        chunks: How many have been committed.
        weights: Digest of the model's weights; known once the state is saved.
        dtype: Of keys, values and tails: `float32`.
        schedule: Noise levels of the sampler; known once a chunk is committed.
        commit: Its commit policy; likewise.
        codec: What decodes the latents, as people write it; null where nobody said.
        text: What encodes the prompts; likewise.
        frames: Latent frames committed.
        flow_level: Noise level of what is committed, where chunks follow the flow; null where they come in few steps.
        first: Number of the first stream, which its noise depends on: so a batch may be divided.
        digest: Of everything else in the file; known once the state is saved.
    """

    schema: Literal["s2search.stream_state/1"] = _SCHEMA
    model: str
    batch: int
    grid: tuple[int, int]
    window: Window
    seed: int
    chunks: int = 0
    weights: str | None = None
    dtype: str | None = None
    schedule: tuple[float, ...] | None = None
    commit: CommitPolicy | None = None
    codec: str | None = None
    text: str | None = None
    frames: int | None = None
    first: int = 0
    flow_level: float | None = None
    digest: str | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read the header of a state's file alone.

        What an older file does not say, and its tensors do, is filled in: the number format and the codec's name.

        Raises:
            InputError: The file cannot be read, or is no such state.
        """
        try:
            check_regular(path)
            with safe_open(path, framework="pt") as file:
                header = msgspec.json.decode((file.metadata() or {}).get("header", ""), type=cls)
                if header.dtype is None:
                    header = dataclasses.replace(header, dtype=_number_format(file))
                stems = [name.removeprefix("decoder:") for name in file.keys() if name.startswith("decoder:")]  # noqa: SIM118
        except (OSError, SafetensorError, msgspec.DecodeError) as error:
            raise InputError(
                f"{str(path)!r} is not a stream's state: {error}", remedy="name a file that --state-out wrote"
            ) from error
        header.check_sizes(f"the state {str(path)!r}")
        return dataclasses.replace(header, codec=header.codec or codec_of(stems))

    def check_sizes(self, name: str) -> None:
        """Raise unless its numbers are those of some stream.

        Raises:
            InputError: One is none of a stream's.
        """
        rows, columns = self.grid
        counted = self.frames is None or (self.chunks <= self.frames and bool(self.chunks) == bool(self.frames))
        if (
            min(self.batch, rows, columns) < 1
            or self.batch * rows * columns > _MOST_TOKENS
            or self.chunks < 0
            or not counted
        ):
            raise InputError(
                f"{name} has batch {self.batch}, grid {self.grid}, {self.chunks} chunks of {self.frames} frames in all",
                allowed=f"sizes of at least 1, {_MOST_TOKENS:,} tokens a frame, and a frame a chunk or more",
                remedy="take a copy as it was saved",
            )

    def check(
        self,
        *,
        name: str = "the state",
        grid: tuple[int, int] | None = None,
        dtype: str | None = None,
        schedule: tuple[float, ...] | None = None,
        commit: CommitPolicy | None = None,
        flow_level: float | None = None,
        codec: str | None = None,
        text: str | None = None,
    ) -> None:
        """Raise unless a stream with these may go on from here; what either side leaves open is not compared.

        Plugins are compared without their folders: files may lie elsewhere. `flow_level` belongs to the schedule.

        Raises:
            InputError: It names what differs, and what the stream was.
        """
        if grid is not None and grid != self.grid:
            size = video_size(*self.grid)
            self._refuse(name, f"of {size} video", f"of {video_size(*grid)}", f"--video {size}")
        if None not in (dtype, self.dtype) and dtype != self.dtype:
            self._refuse(name, f"{self.dtype}", f"{dtype}", f"--dtype {self.dtype}")
        if None not in (schedule, self.schedule) and schedule != self.schedule:
            self._refuse(name, _written(self.schedule), _written(schedule), "the same --steps and --shift")
        if None not in (schedule, self.schedule) and flow_level != self.flow_level:
            self._refuse(name, _sampled(self.flow_level), _sampled(flow_level), "the weights' own sampler")
        if None not in (commit, self.commit) and commit != self.commit:
            self._refuse(name, f"committed by {self.commit}", f"by {commit}", f"--commit {self.commit}")
        for option, own, asked in (("--codec", self.codec, codec), ("--text", self.text, text)):
            if own is not None and asked is not None and _without_folder(own) != _without_folder(asked):
                self._refuse(name, f"of the {option[2:]} plugin {own}", f"of {asked}", f"{option} {own!r}")

    def check_narrow(self, dtype: torch.dtype) -> None:
        """Raise where keys and values are wider than a model's numbers: attention would find two formats.

        Raises:
            InputError: It names both.
        """
        if self.dtype is not None and torch.promote_types(getattr(torch, self.dtype), dtype) != dtype:
            self.check(dtype=format_name(dtype))

    @staticmethod
    def _refuse(name: str, own: str, asked: str, option: str) -> NoReturn:
        raise InputError(f"{name} is {own}, not {asked}", remedy=f"go on with {option}, or start another stream")


def codec_of(names: Iterable[str]) -> str | None:
    """Return the name of the codec whose cache has tensors of these names."""
    return min(names, key=len, default="").removesuffix(".decode") or None


def format_name(dtype: torch.dtype) -> str:
    """Return a number format as headers name it.

    >>> format_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


def _number_format(file: Any) -> str | None:
    """Return the number format of a file's keys, values and tails: the narrowest there, as sums are never narrow."""
    dtypes = {file.get_tensor(name).dtype for name in file.keys() if not name.startswith("decoder:")}  # noqa: SIM118
    floats = sorted((dtype for dtype in dtypes if dtype.is_floating_point), key=lambda dtype: dtype.itemsize)
    return format_name(floats[0]) if floats else None


def _written(schedule: tuple[float, ...] | None) -> str:
    levels = schedule or ()
    if len(levels) > _MOST_WRITTEN:
        return f"of {len(levels)} steps, the second at the noise level {levels[1]:.4g}"
    return f"of {len(levels)} steps ({', '.join(f'{level:.4g}' for level in levels)})"


def _sampled(flow_level: float | None) -> str:
    if flow_level is None:
        return "sampled in few steps"
    return f"sampled along the flow and committed at the noise level {flow_level:.4g}"


def _without_folder(plugin: str) -> tuple[str, dict[str, str]]:
    name, options = registry.parse(plugin)
    return name, {key: value for key, value in options.items() if key != "folder"}
