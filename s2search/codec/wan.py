"""wan: the causal video autoencoder of Wan 2.1 (also Wan 2.2 A14B), as diffusers loads it from a folder.

Source: Wan Team 2025, "Wan: open and advanced large-scale video generative models", arXiv 2503.20314, section 4.1;
`AutoencoderKLWan` of diffusers. Its causal convolutions keep their last frames in a list of slots, which diffusers
overwrites slot by slot and clears around every call. Here a call fills a copy of the list, one latent frame at a time
in diffusers' own order, and the filled copy becomes the next cache: a stream in any pieces gives what one call gives.

Weights are read from safetensors only, without a network. Where the folder leaves weights out, diffusers would go on
with random ones; here that is refused.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from s2search.codec.base import FRAMES_PER_LATENT, PIXELS_PER_LATENT, Codec, DecoderComponent, LoadedCodec
from s2search.document import read_object
from s2search.errors import InputError, require
from s2search.preset import LATENT_CHANNELS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_CLASS = "AutoencoderKLWan"
_INDEX = "diffusion_pytorch_model.safetensors.index.json"
_REPEAT = "Rep"  # what diffusers puts into the slot of a temporal upsampling that has seen only the first frame

_Slots = list[Any]


@dataclass(frozen=True, kw_only=True)
class Wan(Codec):
    """Wan's autoencoder; latents are the posterior's mode, normalised by the statistics in its config.

    Attributes:
        folder: A folder with config.json and safetensors weights, as `save_pretrained` writes it and as the subfolder
            `vae` of a Wan checkpoint for diffusers is; the checkpoint's own folder will do.
    """

    statement: ClassVar[str] = "Wan's causal autoencoder, weights from a folder, by diffusers"

    folder: str

    @override
    def load(self, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> LoadedCodec:
        import torch

        folder = self.read_folder
        config = _config(folder)
        dtype = dtype or torch.float32
        vae = _autoencoder(folder, dtype).to(device).eval().requires_grad_(False)
        for parameter in vae.parameters():
            parameter.data = parameter.data.clone()  # out of the mapped file: aligned, so that bits do not depend on it
        return _LoadedWan(vae, config, torch.device(device), dtype)

    @override
    def component(self) -> DecoderComponent:
        from s2search.codec.decoders.wan import WanDecoder

        loaded = self.load()
        return DecoderComponent(loaded=loaded, model=WanDecoder(loaded).eval(), sources={".": self.read_folder})

    @property
    @override
    def read_folder(self) -> Path:
        folder = Path(self.folder).expanduser()
        for place in (folder, folder / "vae"):
            if (place / "config.json").is_file():
                return place
        raise InputError(
            f"{self.folder!r} is not a folder with config.json",
            allowed="what save_pretrained wrote, or a Wan checkpoint for diffusers",
            remedy="write wan[folder=FOLDER]",
        )


class _LoadedWan(LoadedCodec):
    def __init__(self, vae: Any, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        import torch

        super().__init__(Wan.name, device, dtype)
        self.vae = vae
        exact = torch.promote_types(dtype, torch.float32)
        self.mean_C111, self.std_C111 = (
            torch.tensor(config[key], device=device, dtype=exact)[:, None, None, None]
            for key in ("latents_mean", "latents_std")
        )

    def _encode(self, video_BCTYX: Tensor, before: Mapping[str, Tensor] | None) -> tuple[Tensor, Mapping[str, Tensor]]:
        import torch

        slots = _slots(self.vae.encoder, before)
        frames = video_BCTYX.shape[2]
        lengths = ([1] if before is None else []) + [FRAMES_PER_LATENT] * (frames // FRAMES_PER_LATENT)
        modes = []
        for piece_BCTYX in torch.split(video_BCTYX, lengths, dim=2):
            hidden = _advance(self.vae.encoder, piece_BCTYX, slots)
            modes.append(self.vae.quant_conv(hidden)[:, :LATENT_CHANNELS])  # then the log-variances
        latents_BCTYX = (torch.cat(modes, dim=2).to(self.mean_C111.dtype) - self.mean_C111) / self.std_C111
        return latents_BCTYX.to(self.dtype), _named(slots)

    def _decode(
        self, latents_BCTYX: Tensor, before: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        import torch

        slots = _slots(self.vae.decoder, before)
        raw_BCTYX = (latents_BCTYX.to(self.mean_C111.dtype) * self.std_C111 + self.mean_C111).to(self.dtype)
        pieces = []
        for number, frame_BC1YX in enumerate(torch.split(raw_BCTYX, 1, dim=2)):
            first = before is None and number == 0
            hidden = self.vae.post_quant_conv(frame_BC1YX)
            pieces.append(_advance(self.vae.decoder, hidden, slots, first_chunk=first))
        return torch.cat(pieces, dim=2), _named(slots)


def _advance(coder: Any, x_BCTYX: Tensor, slots: _Slots, **options: bool) -> Tensor:
    """Run a coder over one latent frame and let it fill the slots."""
    import torch

    result_BCTYX: Tensor = coder(x_BCTYX, feat_cache=slots, feat_idx=[0], **options)
    # A permuted tensor would be another kernel's input, and other bits, than the same one saved and loaded.
    slots[:] = [slot.contiguous() if isinstance(slot, torch.Tensor) else slot for slot in slots]
    return result_BCTYX


def _slots(coder: Any, before: Mapping[str, Tensor] | None) -> _Slots:
    """Return the list that diffusers fills: a tensor, nothing yet, or its mark.

    Diffusers makes a slot for every causal convolution and fills them in call order, one for each that spans frames.
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

    spans = [module.kernel_size[0] for module in coder.modules() if isinstance(module, WanCausalConv3d)]
    if before is None:
        return [None] * len(spans)
    filled = [str(number) for number in range(sum(span > 1 for span in spans))]
    if before.keys() != set(filled):
        raise InputError(
            f"a cache of {len(before)} tensors does not fit this autoencoder",
            allowed=f"{len(filled)}, numbered from 0",
            remedy="pass the cache that this stream returned last",
        )
    slots: _Slots = [before[name] if before[name].numel() else _REPEAT for name in filled]
    return slots + [None] * (len(spans) - len(filled))


def _named(slots: _Slots) -> dict[str, Tensor]:
    """Return filled slots by number; diffusers' mark is a tensor without elements."""
    import torch

    filled = ((str(number), slot) for number, slot in enumerate(slots) if slot is not None)
    return {name: torch.empty(0) if isinstance(slot, str) else slot for name, slot in filled}


def _config(folder: Path) -> dict[str, Any]:
    """Return config.json, once it describes an autoencoder of the contract's geometry."""
    config = read_object(folder / "config.json")
    path = str(folder / "config.json")
    if config.get("_class_name") != _CLASS:
        raise InputError(f"{path!r} describes {str(config.get('_class_name'))[:60]!r}", allowed=_CLASS)
    wanted = {"z_dim": LATENT_CHANNELS, "in_channels": 3, "out_channels": 3, "patch_size": None}
    found = {key: config.get(key, value) for key, value in wanted.items()}
    if found != wanted:
        raise InputError(f"{path!r} has {found}", allowed=f"{wanted}, as Wan 2.1 and Wan 2.2 A14B have")
    try:
        halvings = [bool(value) for value in config["temperal_downsample"]]
        compression = (2 ** sum(halvings), 2 ** (len(config["dim_mult"]) - 1))
        statistics = [float(value) for key in ("latents_mean", "latents_std") for value in config[key]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path!r} is incomplete: {error}", remedy="take the config that came with the weights"
        ) from error
    if compression != (FRAMES_PER_LATENT, PIXELS_PER_LATENT):
        raise InputError(f"{path!r} compresses time and space by {compression}", allowed="(4, 8)")
    deviations = statistics[LATENT_CHANNELS:]
    if len(statistics) != 2 * LATENT_CHANNELS or not all(map(math.isfinite, statistics)) or min(deviations) <= 0:
        raise InputError(f"{path!r} has no mean and deviation above 0 for each of {LATENT_CHANNELS} channels")
    return config


def _autoencoder(folder: Path, dtype: torch.dtype) -> Any:
    """Return diffusers' module with every weight from the folder.

    Raises:
        MissingExtraError: diffusers is not installed.
        InputError: The weights are not those of the config.
    """
    require("diffusers")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # what libraries beside diffusers say of each other, on standard error
    try:
        from diffusers import AutoencoderKLWan
    finally:
        logging.disable(level)
    if (folder / _INDEX).exists():
        shard_files(folder / _INDEX)
    model: Any = AutoencoderKLWan
    try:
        vae, info = model.from_pretrained(
            str(folder),
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,  # the other way needs accelerate
            output_loading_info=True,
        )
    except Exception as error:  # whatever a file's content leads diffusers to
        raise InputError(f"{str(folder)!r} cannot be loaded: {error}", remedy="check the folder") from error
    wrong = [*info["missing_keys"], *info["unexpected_keys"]]
    if wrong:
        raise InputError(
            f"{str(folder)!r} lacks {len(info['missing_keys'])} weights and has {len(info['unexpected_keys'])} others, "
            f"such as {wrong[0]!r}",
            remedy="take weights and config.json from the same checkpoint",
        )
    return vae


def shard_files(index: Path) -> tuple[Path, ...]:
    """Return the weight files that a sharded model's index names, by their names; all lie beside it.

    Raises:
        InputError: It names other files than safetensors, which libraries would unpickle, one elsewhere, or none.
    """
    shards = read_object(index).get("weight_map")
    files = set()
    for name in shards.values() if isinstance(shards, dict) and shards else [shards]:
        if not isinstance(name, str) or not name.endswith(".safetensors"):
            raise InputError(f"{str(index)!r} names {str(name)[:60]!r}", allowed="files that end in .safetensors")
        if Path(name).name != name or "\\" in name:
            raise InputError(
                f"{str(index)!r} names {name[:200]!r}, which leads elsewhere", allowed="names of files beside it"
            )
        if not (index.parent / name).is_file():
            raise InputError(f"{str(index)!r} names {name!r}, which is not there", remedy="copy the whole folder")
        files.add(index.parent / name)
    return tuple(sorted(files))
