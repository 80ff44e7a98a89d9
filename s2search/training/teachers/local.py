"""local: any model that `train` or save_pretrained wrote, as a teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from s2search.document import read_json
from s2search.errors import InputError
from s2search.network.config import CONFIG, WEIGHTS, ModelConfig
from s2search.training.teachers.base import Expert, Reader, Teacher, Velocity, check_experts, hashed_files

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from s2search.text.base import TextEncoder


@dataclass(frozen=True, kw_only=True)
class Local(Teacher):
    """One expert, which answers for a whole clip at once.

    Attributes:
        folder: What `train` left in `model/`, or save_pretrained wrote.
        guidance: w of `u + w (c - u)`; above 1 only for a model that was trained with captions left out.
        shift: Of the noise levels that it was trained at.
        text: Its text encoder; `hashing`, as wide as the model, by default.
        negative: What guidance leads away from.
    """

    statement: ClassVar[str] = "a model of s2search, from a folder of its weights"

    folder: str
    guidance: float = 1.0
    shift: float = 3.0
    text: str = ""
    negative: str = ""

    def __post_init__(self) -> None:
        check_experts(self.experts)
        if not 0 < self.shift < float("inf"):
            raise InputError(f"shift={self.shift:g}", allowed="above 0", remedy="correct the teacher's options")

    @property
    @override
    def experts(self) -> tuple[Expert, ...]:
        return (Expert(name="model", guidance=self.guidance),)

    @property
    @override
    def latent_channels(self) -> int:
        return self._config.latent_channels

    @cached_property
    @override
    def files(self) -> Mapping[str, str]:
        return hashed_files(self._folder, (CONFIG, WEIGHTS))

    @property
    @override
    def encoder(self) -> str:
        return self._encoder.label

    @override
    def sizes(self) -> Mapping[str, int]:
        from s2search.network.network import S2DiT

        model = S2DiT.from_pretrained(self._folder, mapped=True)
        return {"model": sum(weight.numel() for weight in model.parameters())}

    @override
    def reading(self, device: torch.device) -> AbstractContextManager[Reader]:
        return self._reading(device)

    @override
    def answering(self, expert: Expert, device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Velocity]:
        return self._answering(device, dtype)

    @contextmanager
    def _reading(self, device: torch.device) -> Iterator[Reader]:
        import torch

        loaded = self._encoder.load(device, torch.float32)
        yield lambda prompts: list(loaded.encode(prompts).unbind(0))

    @contextmanager
    def _answering(self, device: torch.device, dtype: torch.dtype) -> Iterator[Velocity]:
        import torch

        from s2search.network.network import S2DiT

        model: S2DiT = S2DiT.from_pretrained(self._folder).requires_grad_(False).to(device, dtype)

        @torch.no_grad()
        def velocity(x_BCTYX: Tensor, s_B: Tensor, texts: Sequence[Tensor]) -> Tensor:
            text_BSE = torch.stack(list(texts)).to(device, dtype)
            answer: Tensor = model(x_BCTYX.to(device, dtype), s_B[:, None].to(device), text_BSE)
            return answer.float()

        yield velocity

    @cached_property
    def _config(self) -> ModelConfig:
        found = read_json(self._folder / CONFIG, ModelConfig, what="model config")
        if found.causal is not None:
            raise InputError(
                f"the teacher {self.folder!r} was trained to stream, and would be asked about whole clips",
                remedy="name a bidirectional model, of flow or distill",
            )
        return found

    @cached_property
    def _encoder(self) -> TextEncoder:
        from s2search.training.captions import text_encoder

        return text_encoder(self.text, self._config.preset)

    @property
    def _folder(self) -> Path:
        folder = Path(self.folder).expanduser()
        for name in (CONFIG, WEIGHTS):
            if not (folder / name).is_file():
                raise InputError(
                    f"the teacher's folder {self.folder!r} has no {name}",
                    allowed="what save_pretrained wrote, such as RUN/model",
                    remedy="write local[folder=FOLDER]",
                )
        return folder
