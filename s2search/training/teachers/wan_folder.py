"""A folder of diffusers' WanPipeline, opened part by part: all is checked before weights are read.

    model_index.json            which classes the parts are of, and where the experts change over
    transformer/ transformer_2/      config.json, and safetensors in one file or in shards with an index
    text_encoder/ tokenizer/ vae/    UMT5, its tokenizer, the autoencoder

Nothing here asks diffusers to open a pipeline: it would hold all parts at once, and read pickles where there are no
safetensors. A transformer is built without memory and filled tensor by tensor on its device, which `from_pretrained`
does with accelerate alone.

Source: `WanPipeline` and `WanTransformer3DModel` of diffusers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from s2search.border.regular_file import check_regular
from s2search.codec.wan import shard_files
from s2search.document import read_object
from s2search.errors import InputError, require
from s2search.preset import LATENT_CHANNELS
from s2search.training.teachers.base import hashed_files

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

INDEX, CONFIG = "model_index.json", "config.json"
HIGH, LOW = "transformer", "transformer_2"
TEXT, TOKENIZER, VAE = "text_encoder", "tokenizer", "vae"

#: What the parts must be of: classes whose code is in the installed libraries, and that are known here.
_CLASSES = {
    HIGH: ["diffusers", "WanTransformer3DModel"],
    LOW: ["diffusers", "WanTransformer3DModel"],
    TEXT: ["transformers", "UMT5EncoderModel"],
    VAE: ["diffusers", "AutoencoderKLWan"],
}
_AS = "what WanPipeline.save_pretrained wrote, such as a copy of Wan-AI/Wan2.2-T2V-A14B-Diffusers"
_HASHED_AT_ONCE = 4  # files; hashing leaves Python alone

_Count = Annotated[int, msgspec.Meta(ge=1, le=65536)]


class TransformerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of diffusers' WanTransformer3DModel, with its defaults; an unknown one may mean other answers."""

    patch_size: tuple[_Count, _Count, _Count] = (1, 2, 2)
    num_attention_heads: _Count = 40
    attention_head_dim: _Count = 128
    in_channels: int = 16
    out_channels: int = 16
    text_dim: int = 4096
    freq_dim: _Count = 256
    ffn_dim: Annotated[int, msgspec.Meta(ge=1, le=2**20)] = 13824
    num_layers: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 40
    cross_attn_norm: bool = True
    qk_norm: str | None = "rms_norm_across_heads"
    eps: float = 1e-6
    image_dim: None = None
    added_kv_proj_dim: None = None
    rope_max_seq_len: _Count = 1024
    pos_embed_seq_len: None = None


def comes_and_goes(block: nn.Module, device: torch.device) -> None:
    """Bring a block's weights to a device before it computes, and let them go behind it; the host keeps its own."""
    host = {name: weight.data for name, weight in block.named_parameters()}

    def come(module: nn.Module, given: Any) -> None:
        for name, weight in module.named_parameters():
            weight.data = brought(host[name], device)

    def go(module: nn.Module, given: Any, answer: Any) -> None:
        for name, weight in module.named_parameters():
            weight.data = host[name]

    block.register_forward_pre_hook(come)
    block.register_forward_hook(go)


def brought(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device."""
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True, kw_only=True)
class WanFolder:
    """A folder that was checked.

    Attributes:
        folder: Where it lies.
        boundary: The noise level from which `transformer` answers, and below it `transformer_2`; None where the former
            answers everywhere.
        saved_by: The version of diffusers.
    """

    folder: Path
    boundary: float | None
    saved_by: str

    @classmethod
    def read(cls, path: str) -> WanFolder:
        """Check what a folder says of itself, and that its files are there.

        Raises:
            InputError: It is another pipeline, lacks a part, has one that is pickled, or parts that do not fit.
        """
        folder = Path(path).expanduser()
        if not (folder / INDEX).is_file():
            raise InputError(
                f"{path!r} is no pipeline: it has no {INDEX}", allowed=_AS, remedy="write wan22[folder=FOLDER]"
            )
        index = read_object(folder / INDEX)
        boundary = _boundary(path, index)
        found = cls(folder=folder, boundary=boundary, saved_by=str(index.get("_diffusers_version", ""))[:40])
        for part in (*found.experts, TEXT, VAE):
            found._check_part(part, index)
        for part in found.experts:
            found._check_widths(part)
        found._check_tokenizer()
        return found

    @property
    def experts(self) -> tuple[str, ...]:
        """The transformers, from the lowest noise levels to the highest."""
        return (HIGH,) if self.boundary is None else (LOW, HIGH)

    def weights(self, part: str) -> tuple[Path, ...]:
        """Return the weight files of a part.

        Raises:
            InputError: There are none, they are pickled, or an index does not name them.
        """
        folder = self.folder / part
        stem = "model" if part == TEXT else "diffusion_pytorch_model"
        whole, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
        if whole.is_file() and index.is_file():
            raise InputError(f"{str(folder)!r} has {whole.name} and an index beside it", remedy="delete one of them")
        if index.is_file():
            return shard_files(index)
        if whole.is_file():
            return (whole,)
        pickled = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        raise InputError(
            f"{str(folder)!r} has no {whole.name}" + (f" but {pickled[0]!r}" if pickled else ""),
            allowed="safetensors only: pickled weights can run code" if pickled else "",
            remedy="save it with safe_serialization=True" if pickled else "copy the whole folder",
        )

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """A hash of every file that answers depend on; reads all weights, once."""
        names = [INDEX, *(path.relative_to(self.folder).as_posix() for path in self._tokenizer_files)]
        for part in (TEXT, *self.experts):
            stem = self.folder / part
            indices = [path for path in stem.glob("*.safetensors.index.json") if path.is_file()]
            files = [stem / CONFIG, *indices, *self.weights(part)]
            names += [path.relative_to(self.folder).as_posix() for path in files]
        with ThreadPoolExecutor(_HASHED_AT_ONCE) as pool:
            found = pool.map(lambda name: hashed_files(self.folder, (name,)), sorted(names))
            return {name: digest for one in found for name, digest in one.items()}

    def header(self, part: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return number format and shape of every weight of a part; no weight is read.

        Raises:
            InputError: A file is no safetensors.
        """
        found = {}
        for path in self.weights(part):
            with _opened(path, "cpu") as file:
                for name in file.keys():  # noqa: SIM118  # it is no mapping
                    entry = file.get_slice(name)
                    found[name] = (str(entry.get_dtype()), tuple(entry.get_shape()))
        return found

    def config(self, part: str) -> TransformerConfig:
        """Return the configuration of a transformer.

        Raises:
            InputError: It has other options than are known, or values that none has.
        """
        path = self.folder / part / CONFIG
        try:
            plain = {name: value for name, value in read_object(path).items() if not name.startswith("_")}
            return msgspec.convert(plain, TransformerConfig)
        except msgspec.ValidationError as error:
            raise InputError(
                f"{str(path)!r} is not the config of a text-to-video transformer: {error}",
                allowed="the options of diffusers' WanTransformer3DModel, unquantised",
                remedy="take the config that came with the weights",
            ) from error

    def transformer(self, part: str, device: torch.device, dtype: torch.dtype, *, offload: bool = False) -> Any:
        """Return a transformer on a device. What diffusers keeps in float32, such as its norms, is float32.

        Args:
            part: Which.
            device: Where it computes.
            dtype: In which numbers.
            offload: Keep its blocks in the host's memory; each comes to the device while it computes.

        Raises:
            MissingExtraError: diffusers is not installed.
            InputError: Its weights are not those of its config.
        """
        import torch

        require("diffusers")
        with _silent():
            from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed, WanTransformer3DModel
        config, options = self.config(part), msgspec.structs.asdict(self.config(part))
        with torch.device("meta"):
            model: Any = WanTransformer3DModel(**options)
        model.rope = WanRotaryPosEmbed(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)
        wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        self._check_weights(part, wanted)
        exact = set(model._keep_in_fp32_modules)
        filled: dict[str, Tensor] = {}
        for path in self.weights(part):
            with _opened(path, "cpu" if offload else str(device)) as file:
                for name in wanted.keys() & set(file.keys()):
                    own = torch.float32 if exact & set(name.split(".")) else dtype
                    filled[name] = file.get_tensor(name).to(own, copy=True)  # out of the mapped file: aligned
        model.load_state_dict(filled, assign=True)
        model.eval().requires_grad_(False)
        if not offload:
            return model.to(device)
        for block in model.blocks:
            comes_and_goes(block, device)
        for name, module in model.named_children():
            if name != "blocks":
                module.to(device)
        model.scale_shift_table.data = model.scale_shift_table.data.to(device)
        return model

    def _check_part(self, part: str, index: Mapping[str, Any]) -> None:
        if index.get(part) != _CLASSES[part]:
            lacking = part in (HIGH, LOW) and index.get(part) in (None, [None, None])
            raise InputError(
                f"{str(self.folder / INDEX)!r} names {str(index.get(part))[:80]} as {part!r}"
                + (f", and its boundary_ratio {self.boundary} asks for two experts" if lacking else ""),
                allowed=" ".join(_CLASSES[part]),
                remedy=f"name {_AS}",
            )
        if not (self.folder / part / CONFIG).is_file():
            raise InputError(f"{str(self.folder)!r} lacks {part}/{CONFIG}", allowed=_AS, remedy="copy the whole folder")
        self.weights(part)

    def _check_widths(self, part: str) -> None:
        config, path = self.config(part), str(self.folder / part / CONFIG)
        channels = (config.in_channels, config.out_channels)
        if channels != (LATENT_CHANNELS, LATENT_CHANNELS):
            raise InputError(
                f"{path!r} takes {channels[0]} latent channels and gives {channels[1]}",
                allowed=f"{LATENT_CHANNELS} and {LATENT_CHANNELS}, those of Wan 2.1's autoencoder",
                remedy="name a text-to-video checkpoint of Wan 2.1 or Wan 2.2 A14B",
            )
        width = read_object(self.folder / TEXT / CONFIG).get("d_model")
        if config.text_dim != width:
            raise InputError(
                f"{path!r} reads tokens of width {config.text_dim}, and the text encoder gives {str(width)[:20]}",
                remedy="take both from one checkpoint",
            )

    def _check_tokenizer(self) -> None:
        if not (self.folder / TOKENIZER / "tokenizer.json").is_file():
            raise InputError(
                f"{str(self.folder)!r} lacks {TOKENIZER}/tokenizer.json", allowed=_AS, remedy="copy the whole folder"
            )

    def _check_weights(self, part: str, wanted: Mapping[str, tuple[int, ...]]) -> None:
        there = {name: shape for name, (_, shape) in self.header(part).items()}
        if wrong := sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name)):
            raise InputError(
                f"{str(self.folder / part)!r} has weights that do not fit its {CONFIG}: {len(wrong)}, such as "
                f"{wrong[0][:80]!r} of {there.get(wrong[0], 'no shape')}, not {wanted.get(wrong[0], 'any')}",
                remedy="take both from one checkpoint",
            )

    @property
    def _tokenizer_files(self) -> list[Path]:
        files = (self.folder / TOKENIZER).glob("*")
        return sorted(path for path in files if path.is_file() and not path.name.startswith("."))


def _boundary(path: str, index: Mapping[str, Any]) -> float | None:
    kind = index.get("_class_name")
    if kind != "WanPipeline":
        raise InputError(f"{path!r} holds a {str(kind)[:60]!r}", allowed="WanPipeline", remedy=f"name {_AS}")
    if index.get("expand_timesteps"):
        raise InputError(
            f"{path!r} has expand_timesteps: a noise level for every token, and another autoencoder, as Wan 2.2 5B",
            allowed=_AS,
            remedy="name such a folder",
        )
    boundary = index.get("boundary_ratio")
    if boundary is not None and not (isinstance(boundary, float) and 0 < boundary < 1):
        raise InputError(
            f"{path!r} changes experts at the noise level {str(boundary)[:40]}",
            allowed="between 0 and 1, or null for one expert",
            remedy=f"correct boundary_ratio in its {INDEX}",
        )
    return boundary


@contextmanager
def _opened(path: Path, device: str) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(path)
        with safe_open(path, framework="pt", device=device) as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}", remedy="copy it again") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Silence what libraries beside diffusers say of each other while it is imported."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
