"""wan22: Wan 2.2's text-to-video transformers as a teacher, from a folder of diffusers' WanPipeline.

Of what is large one thing is in memory at a time: UMT5 while prompts are read, then one expert. It answers as the
pipeline does, but for two things: it is asked at t = 1000 s, exactly, where the pipeline's sampler rounds t down to a
whole number, and the tokenizer is what its file says (see UMT5).

Source: Wan Team 2025, "Wan", arXiv 2503.20314; Wan 2.2's `wan/configs/wan_t2v_A14B.py` (change at 0.875, shift 12,
guidance 3 below and 4 above) and `wan/text2video.py` (its negative prompt stands in for an empty one); `WanPipeline`.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  S text tokens  E channels of a token
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from s2search.codec.wan import Wan
from s2search.errors import InputError, require
from s2search.preset import LATENT_CHANNELS
from s2search.text.umt5 import UMT5, LoadedUMT5, padded
from s2search.training.data.base import digest_of
from s2search.training.teachers.base import Expert, Reader, Teacher, Velocity, check_experts
from s2search.training.teachers.wan_folder import HIGH, LOW, TEXT, TOKENIZER, WanFolder

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_TOKENS = 512  # of a prompt, filled up with zeros: the experts attend to the zeros too

#: What Wan's own program leads away from where nothing else is asked: `sample_neg_prompt` of its shared_config.py.
NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，"
    "手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)


@dataclass(frozen=True, kw_only=True)
class Wan22(Teacher):
    """Two experts, of which one answers for a whole clip at once; or Wan 2.1's one.

    Attributes:
        folder: What `WanPipeline.save_pretrained` wrote.
        guidance: w of `u + w (c - u)` where `transformer` answers, at high noise levels.
        guidance_2: The same where `transformer_2` answers.
        shift: Of noise levels as it samples.
        negative: What guidance leads away from; Wan's own words by default.
        offload: Keep an expert's blocks in the host's memory, and bring each to the device while it computes: for a GPU
            that is smaller than an expert. Weights then pass once per batch, which a large one is worth.
    """

    statement: ClassVar[str] = "Wan 2.2's two text-to-video experts (or Wan 2.1's one), from a folder, by diffusers"

    folder: str
    guidance: float = 4.0
    guidance_2: float = 3.0
    shift: float = 12.0
    negative: str = NEGATIVE
    offload: bool = field(default=False, repr=False)  # answers are the same

    def __post_init__(self) -> None:
        check_experts(self.experts)
        if not 0 < self.shift < float("inf"):
            raise InputError(f"shift={self.shift:g}", allowed="above 0", remedy="correct the teacher's options")

    @property
    @override
    def experts(self) -> tuple[Expert, ...]:
        boundary = self._opened.boundary
        if boundary is None:
            return (Expert(name=HIGH, guidance=self.guidance),)
        low = Expert(name=LOW, high=boundary, guidance=self.guidance_2)
        return low, Expert(name=HIGH, low=boundary, guidance=self.guidance)

    @property
    @override
    def latent_channels(self) -> int:
        return LATENT_CHANNELS

    @property
    @override
    def files(self) -> Mapping[str, str]:
        return self._opened.hashes

    @property
    @override
    def encoder(self) -> str:
        own = {name: digest for name, digest in self.files.items() if name.startswith((f"{TEXT}/", f"{TOKENIZER}/"))}
        digest = digest_of(*(f"{name} {own[name]}" for name in sorted(own)))
        return f"UMT5 of {digest[:23]}, {_TOKENS} tokens at most, {_mender()}"

    @cached_property
    @override
    def codec_digest(self) -> str:
        return Wan(folder=self.folder).digest

    @property
    @override
    def revision(self) -> str:
        version = self._opened.saved_by
        return f"saved by diffusers {version}" if version else ""

    @override
    def sizes(self) -> Mapping[str, int]:
        headers = {part: self._opened.header(part).values() for part in (*self._opened.experts, TEXT)}
        return {part: sum(math.prod(shape) for _, shape in header) for part, header in headers.items()}

    @override
    def reading(self, device: torch.device) -> AbstractContextManager[Reader]:
        return self._reading(device)

    @override
    def answering(self, expert: Expert, device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Velocity]:
        return self._answering(expert.name, device, dtype)

    @contextmanager
    def _reading(self, device: torch.device) -> Iterator[Reader]:
        """Hold UMT5 in the numbers that it is stored in: bfloat16 in Wan 2.2's checkpoint."""
        import torch

        require("diffusers", "transformers")
        from diffusers.pipelines.wan.pipeline_wan import prompt_clean

        stored = {code for code, _ in self._opened.header(TEXT).values()}
        dtype = torch.bfloat16 if stored == {"BF16"} else torch.float32
        loaded = UMT5(folder=self.folder, tokens=_TOKENS).load(device, dtype)
        assert isinstance(loaded, LoadedUMT5)
        held = [loaded]
        del loaded

        @torch.no_grad()
        def read(prompts: Sequence[str]) -> list[Tensor]:
            return held[0].read([prompt_clean(prompt) for prompt in prompts])  # type: ignore[no-untyped-call]

        try:
            yield read
        finally:
            held.clear()  # whoever keeps the function keeps no weights
            _give_back(device)

    @contextmanager
    def _answering(self, part: str, device: torch.device, dtype: torch.dtype) -> Iterator[Velocity]:
        import torch

        from s2search.network.flow import network_time

        held = [self._opened.transformer(part, device, dtype, offload=self.offload)]
        patch = self._opened.config(part).patch_size

        @torch.no_grad()
        def velocity(x_BCTYX: Tensor, s_B: Tensor, texts: Sequence[Tensor]) -> Tensor:
            _check_patches(x_BCTYX.shape[2:], patch)
            text_BSE = padded(texts, _TOKENS).to(device, dtype)
            t_B = network_time(s_B.to(device).float())
            v_BCTYX: Tensor = held[0](x_BCTYX.to(device, dtype), t_B, text_BSE, return_dict=False)[0]
            return v_BCTYX.float()

        try:
            yield velocity
        finally:
            held.clear()
            _give_back(device)

    @cached_property
    def _opened(self) -> WanFolder:
        return WanFolder.read(self.folder)


def _check_patches(size: Sequence[int], patch: Sequence[int]) -> None:
    if any(length % step for length, step in zip(size, patch, strict=True)):
        raise InputError(
            f"latents of {'x'.join(map(str, size))} (frames, rows, columns) are no whole patches",
            allowed=f"multiples of {'x'.join(map(str, patch))}",
            remedy="make the data with a --video whose sides are multiples of 16",
        )


def _mender() -> str:
    """Return in words what mends letters of prompts before they are read; it is not installed with s2search."""
    try:
        return f"ftfy {metadata.version('ftfy')}"
    except metadata.PackageNotFoundError:
        return "no ftfy"


def _give_back(device: torch.device) -> None:
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
