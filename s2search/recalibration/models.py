"""Models in torch as subjects: random layouts realized and called as the profilers call a block; nothing is exported.

Axes: C latent channels  T frames  Y X latent rows and columns  S text tokens  E text channels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from s2search.measurement.base import Prepared
from s2search.measurement.torch_cpu import TorchCpu
from s2search.measurement.torch_cuda import TorchCuda
from s2search.network.config import ModelConfig
from s2search.preset import PATCH, Preset
from s2search.recalibration.bench import Bench

if TYPE_CHECKING:
    from s2search.network.network import S2DiT

#: They call modules of torch, so whole models of torch are timed beside them.
MODEL_PROFILERS = (TorchCpu.name, TorchCuda.name)


@dataclass(frozen=True, kw_only=True)
class ModelBench(Bench):
    """Runs models as they were realized.

    Attributes:
        profiler: Its device, type, threads, compilation and CUDA graphs are the models' too.
    """

    profiler: TorchCpu | TorchCuda

    @override
    def write(self, layout: Sequence[str], preset: Preset, grid: tuple[int, int], folder: Path, *, seed: int) -> None:
        if not folder.exists():
            random_model(ModelConfig.new(preset, tuple(layout)), seed).save_pretrained(folder)

    @override
    def prepare(self, folder: Path, grid: tuple[int, int]) -> Prepared:
        import torch

        from s2search.measurement.torch_call import TorchCall
        from s2search.network.network import S2DiT

        device, dtype = self.profiler.place()
        model = S2DiT.from_pretrained(folder, dtype=dtype).to(device).requires_grad_(False)
        preset = model.config.preset
        size = (1, model.config.latent_channels, preset.chunk_frames, PATCH[1] * grid[0], PATCH[2] * grid[1])
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), device, torch.no_grad():
            torch.manual_seed(0)
            latents_BCTYX = torch.randn(size, dtype=dtype)
            text_BSE = torch.randn(1, preset.text_tokens, preset.text_channels, dtype=dtype)
            s_BT = torch.rand(1, 1)
            state = model.initial_state(1, grid, device, dtype, window=preset.window)
            for _ in range(preset.window_chunks + preset.sink_chunks):
                state = model.commit(torch.randn_like(latents_BCTYX), s_BT, text_BSE, state)
        arguments = {"latents": latents_BCTYX, "s": s_BT, "text": text_BSE, "state": state}
        return self.profiler.prepare_call(TorchCall(module=model, arguments=arguments, state=state))


def random_model(config: ModelConfig, seed: int) -> S2DiT:
    """Realize a layout with random weights: no runtime is faster or slower for what they are."""
    import torch

    from s2search.network.network import S2DiT

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return S2DiT(config)
