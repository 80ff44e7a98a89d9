import pytest
import torch

from s2search.network.network import S2DiT
from s2search.preset import Preset

SMALL = {"channels": 24, "heads": 4, "feed_forward": 32, "text_channels": 7, "text_tokens": 5}


@pytest.fixture(autouse=True, scope="session")
def _alone(one_thread):
    """Every test here."""


@pytest.fixture
def make():
    return Maker()


class Maker:
    """Makes small random models and their inputs."""

    def model(self, layout="SLLSFL", *, dtype=torch.float64, chunk_frames=2, **sizes):
        layout_depth = sizes.pop("depth", sum(c.isupper() for c in layout))
        preset = Preset(name="test", depth=layout_depth, chunk_frames=chunk_frames, layout=layout, **(SMALL | sizes))
        torch.manual_seed(0)
        model = S2DiT.from_preset(preset, velocity="residual").double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return model.to(dtype)

    def latents(self, frames, grid=(3, 5), *, batch=1, dtype=torch.float64, seed=1):
        generator = torch.Generator().manual_seed(seed)
        size = (batch, 16, frames, 2 * grid[0], 2 * grid[1])
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)

    def text(self, *, batch=1, dtype=torch.float64, seed=2):
        generator = torch.Generator().manual_seed(seed)
        size = (batch, SMALL["text_tokens"], SMALL["text_channels"])
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)
