"""Two frozen networks whose features distances are taken between, and the file that keeps them.

Both look at a clip's frames and at the differences from each to the next; one has random weights, one learned to tell
real clips of the training split from spoilt ones. What either says depends on what is written here and on nothing else,
and has a digest: a distance without its network means nothing.

The file is safetensors: a header, and the tensors of both, with the means and deviations of latents and features.

Axes: B N clips  C channels  T latent frames  Y X latent rows and columns  F features
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from s2search import registry
from s2search.border.regular_file import check_regular
from s2search.document import check_writable
from s2search.errors import InputError
from s2search.network.weight_file import save_tensors, weights_digest
from s2search.training.data.base import digest_of
from s2search.training.data.inspect import channel_moments
from s2search.training.distance.corruptions import LEAST_FRAMES
from s2search.training.share import generator

if TYPE_CHECKING:
    from s2search.training.data.clips import Clips

#: A new name for whatever changes what equal weights answer.
ARCHITECTURE: Literal["differences/1"] = "differences/1"
RANDOM, TRAINED = "random", "trained"
MOST_FEATURES = 64
_WIDTHS = (32, 48)
_BATCH = 32  # fixed: sums are rounded otherwise beside other clips
_FITTED = 512  # training clips whose features say what is normal
_MOST_GROUPS = 4096
_LEAST_STD = 1e-6

Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]


class NetworksHeading(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of networks says of itself.

    Attributes:
        data: The digest of the data set on whose training split one of them was trained.
        codec_digest: A hash of what encoded its latents.
        groups: Short hashes of the recordings, or groups of them, that they have seen.
        latent_channels: Of the latents.
        features: Of each network.
        steps: That one was trained for.
        seed: Of weights, order and noise.
        accuracy: Part of held-out clips, real and spoilt, that the trained one names rightly; one in eight is chance.
        digests: Of each network by its name: over architecture, weights and what is normal.
        versions: That it was made with.
    """

    schema: Literal["s2search.distance_networks/1"] = "s2search.distance_networks/1"
    architecture: Literal["differences/1"] = ARCHITECTURE
    data: str
    codec_digest: str
    groups: tuple[str, ...]
    latent_channels: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    features: Annotated[int, msgspec.Meta(ge=2, le=MOST_FEATURES)]
    steps: Count
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    accuracy: float
    digests: dict[str, str]
    versions: dict[str, str]


class Differences(nn.Module):
    """A small network of clips: three convolutions over frames and their differences, their means, and features.

    Args:
        channels: Of the latents.
        features: That it gives.
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        one, two = _WIDTHS
        self.first = nn.Conv3d(2 * channels, one, 3, padding=1)
        self.second = nn.Conv3d(one, two, 3, stride=(1, 2, 2), padding=1)
        self.third = nn.Conv3d(two, MOST_FEATURES, 3, stride=(1, 2, 2), padding=1)
        self.features = nn.Linear(MOST_FEATURES, features)

    def forward(self, latents_BCTYX: Tensor) -> Tensor:
        """Return features_BF of normalised latents."""
        now, before = latents_BCTYX[:, :, 1:], latents_BCTYX[:, :, :-1]
        h = torch.cat([now, now - before], 1)
        for convolution in (self.first, self.second, self.third):
            h = convolution(h).relu()
        found: Tensor = self.features(h.mean((2, 3, 4)))
        return found


@dataclass(frozen=True, kw_only=True)
class FeatureNetwork:
    """A frozen network with what is normal to it.

    Attributes:
        name: `random` or `trained`.
        module: In evaluation mode, on the processor.
        mean_C: Of the training split's latents.
        std_C: Standard deviations of them.
        mean_F: Of its features there.
        std_F: Likewise.
    """

    name: str
    module: Differences
    mean_C: Tensor
    std_C: Tensor
    mean_F: Tensor
    std_F: Tensor

    @property
    def count(self) -> int:
        """Features."""
        return len(self.mean_F)

    @property
    def digest(self) -> str:
        """A hash over its architecture, its weights, and what is normal."""
        return digest_of(ARCHITECTURE, _WIDTHS, weights_digest(self.tensors().items()))

    def tensors(self) -> dict[str, Tensor]:
        """Return all numbers that its answers depend on, by name."""
        own = {name: tensor.detach() for name, tensor in self.module.state_dict().items()}
        return own | {"mean_C": self.mean_C, "std_C": self.std_C, "mean_F": self.mean_F, "std_F": self.std_F}

    def normalised(self, latents_BCTYX: Tensor) -> Tensor:
        """Return latents of mean 0 and variance 1 in each channel, over the training split."""
        return normalised(latents_BCTYX, self.mean_C, self.std_C)

    def as_in_data(self, x_BCTYX: Tensor) -> Tensor:
        """Return normalised latents as they would be in the data set."""
        return x_BCTYX * self.std_C[:, None, None, None] + self.mean_C[:, None, None, None]

    @torch.no_grad()
    def __call__(self, latents_NCTYX: Tensor) -> NDArray[np.float64]:
        """Return features_NF of latents as they are in the data set.

        A feature z, of mean 0 and variance 1 over the training split, becomes sign(z) log(1 + |z|): a few clips far out
        would be all that a cubic kernel sees.

        Raises:
            InputError: They have another number of channels, too few frames, or are not finite.
        """
        check_latents(latents_NCTYX, len(self.mean_C))
        parts = [self.module(self.normalised(part.float().cpu())) for part in batched(latents_NCTYX)]
        features_NF = (torch.cat(parts) - self.mean_F) / self.std_F
        return np.asarray((features_NF.sign() * features_NF.abs().log1p()).double().numpy())


@dataclass(frozen=True, kw_only=True)
class FeatureNetworks:
    """Both networks, with what their file says."""

    heading: NetworksHeading
    random: FeatureNetwork
    trained: FeatureNetwork

    @property
    def both(self) -> tuple[FeatureNetwork, FeatureNetwork]:
        """The two, in the order of tables."""
        return self.random, self.trained

    def save(self, path: Path) -> None:
        """Write the file, all or nothing.

        Raises:
            InputError: It cannot be written there.
        """
        check_writable(path)
        tensors = {
            f"{network.name}.{name}": tensor.contiguous()
            for network in self.both
            for name, tensor in network.tensors().items()
        }
        partial = path.with_name(f".{path.name}.partial")
        save_tensors(tensors, partial, {"header": msgspec.json.encode(self.heading).decode()})
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `distance train` wrote.

        Raises:
            InputError: It cannot be read, is no such file, or was changed.
        """
        named = f"the networks {str(path)!r}"
        try:
            check_regular(path)
            with safe_open(path, framework="pt") as file:
                heading = msgspec.json.decode((file.metadata() or {}).get("header", ""), type=NetworksHeading)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            found = {name: _network(name, heading, tensors) for name in (RANDOM, TRAINED)}
        except (OSError, SafetensorError, msgspec.DecodeError, KeyError, RuntimeError) as error:
            raise InputError(
                f"{named} cannot be read: {error}", remedy="name a file that `s2search distance train` wrote"
            ) from error
        for name, network in found.items():
            if network.digest != heading.digests.get(name):
                raise InputError(f"{named} were changed since they were written", remedy="take them as they were")
        return cls(heading=heading, random=found[RANDOM], trained=found[TRAINED])

    def check_data(self, clips: Clips) -> None:
        """Raise unless held-out clips of a data set can be measured by these networks.

        Raises:
            InputError: Its latents are of another codec, or the networks were trained on recordings that it holds out.
        """
        check_frames(clips)
        if clips.heading.codec_digest != self.heading.codec_digest:
            raise InputError(
                f"the networks were trained on latents of {self.heading.codec_digest[:19]}, and the data set "
                f"{str(clips.folder)!r} has those of {clips.heading.codec}, {clips.heading.codec_digest[:19]}",
                remedy="train networks on this data: s2search distance train",
            )
        seen = {_short(clip.group) for clip in clips.of("held-out")} & set(self.heading.groups)
        if seen:
            raise InputError(
                f"the networks were trained on {len(seen)} recordings, or groups of them, that the data set "
                f"{str(clips.folder)!r} holds out",
                remedy="train networks on its training split, or divide it as their data was divided",
            )


def heading_of(
    clips: Clips, networks: Sequence[FeatureNetwork], *, steps: int, seed: int, accuracy: float
) -> NetworksHeading:
    """Return what a file of two networks of a data set says."""
    groups = sorted({_short(clip.group) for clip in clips.of("train")})
    return NetworksHeading(
        data=clips.digest,
        codec_digest=clips.heading.codec_digest,
        groups=tuple(groups[:_MOST_GROUPS]),
        latent_channels=clips.heading.latent_channels,
        features=networks[0].count,
        steps=steps,
        seed=seed,
        accuracy=accuracy,
        digests={network.name: network.digest for network in networks},
        versions={"s2search": registry.own_version(), "torch": str(torch.__version__)},
    )


def random_network(clips: Clips, *, features: int = MOST_FEATURES, seed: int = 0) -> FeatureNetwork:
    """Return the network of random weights, for the data's channels and with what is normal in its training split.

    Args:
        clips: The data set.
        features: That it gives.
        seed: Of the weights: numbers with the variance 2 / inputs (He et al., 2015), drawn on the processor.
    """
    module = Differences(clips.heading.latent_channels, features)
    draw(module, generator("distance", RANDOM, seed))
    return fitted(RANDOM, module, clips, *moments(clips))


def draw(module: nn.Module, source: torch.Generator) -> None:
    """Draw a module's weights, in the order of its layers; its biases are 0."""
    with torch.no_grad():
        for weight in module.parameters():
            if weight.dim() == 1:
                weight.zero_()
            else:
                weight.copy_(torch.randn(weight.shape, generator=source) * (2 / weight[0].numel()) ** 0.5)


def fitted(name: str, module: Differences, clips: Clips, mean_C: Tensor, std_C: Tensor) -> FeatureNetwork:
    """Return a frozen network with the means and deviations of its features over the training split."""
    module = module.eval().requires_grad_(False)
    ids = [clip.id for clip in clips.of("train")]
    ids = ids[:: max(1, -(-len(ids) // _FITTED))]
    with torch.no_grad():
        parts = [
            module(normalised(clips.latents(ids[at : at + _BATCH]), mean_C, std_C)).double()
            for at in range(0, len(ids), _BATCH)
        ]
    features_NF = torch.cat(parts)
    std_F, mean_F = torch.std_mean(features_NF, dim=0, correction=0)
    return FeatureNetwork(
        name=name,
        module=module,
        mean_C=mean_C,
        std_C=std_C,
        mean_F=mean_F.float(),
        std_F=std_F.clamp_min(_LEAST_STD).float(),
    )


def moments(clips: Clips) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the training split's latents by channel, in float32.

    Raises:
        InputError: It has no clips, or too few frames.
    """
    check_frames(clips)
    if not clips.of("train"):
        raise InputError(
            f"the data set {str(clips.folder)!r} has no clips to train on", remedy="make it with --held-out below 1"
        )
    mean_C, std_C = (torch.tensor(numbers) for numbers in channel_moments(clips, _MOST_GROUPS))
    return mean_C, std_C.clamp_min(_LEAST_STD)


def normalised(latents_BCTYX: Tensor, mean_C: Tensor, std_C: Tensor) -> Tensor:
    """Return latents of mean 0 and variance 1."""
    return (latents_BCTYX - mean_C[:, None, None, None]) / std_C[:, None, None, None]


def check_frames(clips: Clips) -> None:
    """Raise where clips are too short for their time to be told.

    Raises:
        InputError: They have fewer than 3 latent frames.
    """
    if (frames := clips.heading.latent_size[1]) < LEAST_FRAMES:
        raise InputError(
            f"the clips of {str(clips.folder)!r} have {frames} latent frames",
            allowed=f"{LEAST_FRAMES} or more: less has no time to shuffle",
            remedy=f"make the data with --frames {1 + 4 * (LEAST_FRAMES - 1)} or more",
        )


def check_latents(latents_NCTYX: Tensor, channels: int) -> None:
    """Raise unless latents can be measured.

    Raises:
        InputError: They have another number of channels or too few frames, or are not finite.
    """
    if latents_NCTYX.dim() != 5 or latents_NCTYX.shape[1] != channels or latents_NCTYX.shape[2] < LEAST_FRAMES:
        raise InputError(
            f"latents of the size {tuple(latents_NCTYX.shape)}",
            allowed=f"clips of {channels} channels, and of {LEAST_FRAMES} frames or more",
            remedy="measure latents of the networks' codec",
        )
    finite_N = latents_NCTYX.isfinite().flatten(1).all(1)
    if not finite_N.all():
        raise InputError(
            f"sample {int((~finite_N).nonzero()[0])} has numbers that are not finite", remedy="look at the model"
        )


def batched(latents_NCTYX: Tensor) -> Iterator[Tensor]:
    """Yield clips in batches of the size that all are looked at in."""
    for start in range(0, len(latents_NCTYX), _BATCH):
        yield latents_NCTYX[start : start + _BATCH]


def _network(name: str, heading: NetworksHeading, tensors: dict[str, Tensor]) -> FeatureNetwork:
    own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
    numbers = {key: own.pop(key) for key in ("mean_C", "std_C", "mean_F", "std_F")}
    with torch.device("meta"):
        module = Differences(heading.latent_channels, heading.features)
    module.load_state_dict(own, assign=True)
    return FeatureNetwork(name=name, module=module.eval().requires_grad_(False), **numbers)


def _short(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()[:12]
