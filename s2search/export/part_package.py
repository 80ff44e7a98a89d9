"""The parts around the step as packages of their own: `text` makes tokens of numbers of words, `decoder` makes frames.

    manifest.json   what is in it (`PartManifest`)
    source/         the plugin's own folder: config, safetensors and tokenizer; verification loads it
    ...             the runtime's own files, as those of a step's package

`text` has one function, `encode`: `ids` (1, S) int32 in, `text` (1, S, E) out. Splitting a prompt into numbers is the
tokenizer's work, which stays with the host. Only `clip` has a network to export; `hashing` needs none.

`decoder` has two: `first` decodes the first chunk of a stream, `next` every later one. Both take `latents` (1, C, T, Y,
X) and return `video` (1, 3, frames, rows, columns) from -1 to 1 and the cache as `new_cache_00`, ...; `next` also takes
`cache_00`, .... `dct` has no cache: it is one linear map.

Axes: see s2search/codec/base.py and s2search/text/base.py
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import torch
from torch import Tensor, nn

from s2search import registry
from s2search.codec.dct import BLOCK
from s2search.document import read_json, write_text
from s2search.errors import InputError
from s2search.export.graph import decompositions, decompositions_of_attention, exported, quiet
from s2search.export.package import (
    MANIFEST,
    SOURCE,
    FileEntry,
    FunctionSpec,
    Package,
    Progress,
    TensorSpec,
    file_entries,
    new_folder,
)
from s2search.export.step import MASKED
from s2search.preset import LATENT_CHANNELS, PATCH

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Part = Literal["text", "decoder"]
SCHEMA: Literal["s2search.part/1"] = "s2search.part/1"
NEW, CACHE = "new_", "cache_"
EXPORTERS = ("onnx", "coreml")
_KEPT = ("*.json", "*.safetensors", "*.txt")


@dataclass(frozen=True, kw_only=True)
class PartManifest:
    """What a part's package is; the content of its manifest.json.

    Attributes:
        schema: Of the file.
        part: `text` or `decoder`.
        plugin: The text encoder or codec by its name; its folder is the package's source.
        exporter: Who wrote the files, and runs them: `onnx` or `coreml`.
        facts: Versions.
        source_digest: Of the source's weights, file by file; of nothing where there are none.
        precision: Of weights and activations.
        functions: What can be run.
        states: The cache, as inputs.
        held: None: a part's runtime keeps nothing by itself.
        files: All files but the manifest itself.
    """

    schema: Literal["s2search.part/1"] = SCHEMA
    part: Part
    plugin: str
    exporter: str
    facts: dict[str, str]
    source_digest: str
    precision: str
    functions: tuple[FunctionSpec, ...]
    states: tuple[TensorSpec, ...]
    files: tuple[FileEntry, ...]
    held: tuple[str, ...] = ()

    def function(self, name: str) -> FunctionSpec:
        """Return a function by name."""
        return next(function for function in self.functions if function.name == name)


@dataclass(frozen=True, kw_only=True)
class PartPackage(Package):
    """A part's folder and its manifest."""

    manifest: PartManifest  # type: ignore[assignment]  # of a part instead of a step

    @classmethod
    def load(cls, folder: Any) -> PartPackage:
        """Read a part's manifest. See the base class."""
        manifest = read_json(Path(folder, MANIFEST), PartManifest, what="package manifest of a part")
        return cls(folder=Path(folder), manifest=manifest)

    @property
    def plugin_text(self) -> str:
        """The plugin as it is written on a command line, with the package's source as its folder."""
        return (
            self.manifest.plugin if self.manifest.plugin == "dct" else f"{self.manifest.plugin}[folder={self.source}]"
        )


def is_part(folder: Path) -> bool:
    """Return whether a folder holds the package of a part."""
    try:
        return f'"{SCHEMA}"' in Path(folder, MANIFEST).read_text(encoding="utf-8")[:200]
    except (OSError, ValueError):
        return False


class TextPart(nn.Module):
    """The network of a text encoder. Its weights are under `model.`."""

    def __init__(self, plugin: str) -> None:
        super().__init__()
        encoder = registry.create("texts", plugin)
        if encoder.name != "clip":
            raise InputError(
                f"the text encoder {encoder.name!r} cannot be a package",
                allowed="clip; hashing needs none: its tokens are computed from the words",
            )
        loaded = encoder.load(torch.device("cpu"), torch.float32)
        self.tokens, self.tokenizer, self.model = encoder.tokens, loaded._tokenizer, loaded._model
        self.model.set_attn_implementation("eager")  # written out: converters refuse what sdpa's mask becomes
        self.folder = Path(encoder.folder).expanduser()
        # CLIP's own mask of what comes later is minus infinity in float16, and takes operators that Core ML lacks.
        self.later_11SS = torch.full((1, 1, self.tokens, self.tokens), MASKED).triu(1)

    def forward(self, ids_BS: Tensor) -> tuple[Tensor, ...]:
        """Return text_BSE."""
        return (self.model(input_ids=ids_BS.long(), attention_mask=self.later_11SS).last_hidden_state,)

    def ids(self, prompt: str) -> Tensor:
        """Return a prompt as numbers, int32."""
        from s2search.text.pretrained import token_ids

        config = self.model.config
        return token_ids(self.tokenizer, [prompt], self.tokens, config.vocab_size)[0].to(torch.int32)


class DecoderPart(nn.Module):
    """A codec's decoder at one place of a stream. Its weights are under `model.`."""

    def __init__(self, plugin: str) -> None:
        super().__init__()
        configured = registry.create("codecs", plugin)
        self.codec: Any = configured.load("cpu", torch.float32)
        self.folder = configured._folder() if hasattr(configured, "folder") else None
        if isinstance(vae := getattr(self.codec, "vae", None), nn.Module):
            self.model = vae
        self.names: tuple[str, ...] | None = None

    def forward(self, latents_BCTYX: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        """Return the video, and the cache in the order of its names; without `names` a stream begins."""
        if isinstance(getattr(self.codec, "basis_CP", None), Tensor):
            return (_cosines_added(self.codec, latents_BCTYX, first=self.names is None),)
        before = None if self.names is None else dict(zip(self.names, cache, strict=True))
        video_BCTYX, after = self.codec._decode(latents_BCTYX, before)
        return (video_BCTYX.clamp(-1, 1), *(tensor.clone() for tensor in after.values()))

    def cache_names(self, latents_BCTYX: Tensor) -> tuple[str, ...]:
        """Return the names of what the codec remembers after a first chunk."""
        return tuple(self.codec._decode(latents_BCTYX, None)[1])


def _cosines_added(codec: Any, latents_BCTYX: Tensor, *, first: bool) -> Tensor:
    """Return what `dct` decodes, as one 1x1 convolution per frame and a shuffle: its own way goes over eight axes."""
    latents_BTYXC = latents_BCTYX.permute(0, 2, 3, 4, 1) * codec.std_C + codec.mean_C
    cells_TPYX: Tensor = torch.conv2d(latents_BTYXC[0].permute(0, 3, 1, 2), codec.basis_CP.T[:, :, None, None])
    frames_TPYX = torch.pixel_shuffle(cells_TPYX, BLOCK[2])
    video_TCtYX = frames_TPYX.view(len(frames_TPYX), *BLOCK[:2], *frames_TPYX.shape[2:])
    video_BCTYX = video_TCtYX.permute(1, 0, 2, 3, 4).flatten(1, 2)[None]
    if first:
        still_BC1YX = video_BCTYX[:, :, : BLOCK[1]].mean(dim=2, keepdim=True)
        video_BCTYX = torch.cat([still_BC1YX, video_BCTYX[:, :, BLOCK[1] :]], dim=2)
    return video_BCTYX.clamp(-1, 1)


@torch.no_grad()
def export_part(
    part: Part,
    plugin: str,
    exporter: str,
    out: Path,
    progress: Progress = lambda done, total, label: None,
    *,
    grid: tuple[int, int] = (9, 16),
    frames: int = 3,
) -> PartPackage:
    """Write the package of a part, all or nothing.

    Args:
        part: `text` or `decoder`.
        plugin: The text encoder or codec, as people write it.
        exporter: `onnx` or `coreml`.
        out: Its folder; there may be nothing at that place.
        progress: Called as the work goes on.
        grid: Of the decoder: token rows and columns.
        frames: Of the decoder: latent frames of a chunk.

    Raises:
        InputError: The plugin has no network, the exporter does not know parts, or the folder exists.
    """
    if exporter not in EXPORTERS:
        raise InputError(f"{exporter!r} writes no parts", allowed=", ".join(EXPORTERS))
    module: Any = TextPart(plugin) if part == "text" else DecoderPart(plugin)
    examples = text_examples(module) if part == "text" else decoder_examples(module, grid, frames)
    table = decompositions() if exporter == "coreml" else decompositions_of_attention()
    programs, specs = {}, []
    for done, (function, (inputs, outputs, names)) in enumerate(examples.items()):
        progress(done, 2 * len(examples), f"tracing {function}")
        module.names = names
        arguments = tuple(inputs.values())
        programs[function] = exported(module.eval(), arguments, table)
        given = dict(zip(outputs, module(*arguments), strict=True))
        specs.append(_function(function, exporter, inputs, given))
    with new_folder(out) as folder:
        progress(len(examples), 2 * len(examples), "writing")
        files = _WRITERS[exporter](programs, specs, folder, plugin)
        (folder / SOURCE).mkdir()
        if module.folder is not None:
            for path in sorted(path for pattern in _KEPT for path in module.folder.rglob(pattern)):
                place = folder / SOURCE / path.relative_to(module.folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
        specs = [dataclasses.replace(one, file=files[one.name]) for one in specs]
        manifest = PartManifest(
            part=part,
            plugin=plugin.partition("[")[0],
            exporter=exporter,
            facts={"torch": version("torch")},
            source_digest=source_digest(folder / SOURCE),
            precision="float16" if exporter == "coreml" else "float32",
            functions=tuple(specs),
            states=tuple(one for one in specs[-1].inputs if one.name.startswith(CACHE)),
            files=file_entries(folder, progress),
        )
        write_text(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1).decode() + "\n")
    progress(2 * len(examples), 2 * len(examples), "")
    return PartPackage.load(out)


def text_examples(module: TextPart) -> dict[str, Any]:
    """Return the inputs, output names and cache of `encode`."""
    return {"encode": ({"ids": module.ids("a cat")}, ("text",), None)}


def decoder_examples(module: DecoderPart, grid: tuple[int, int], frames: int) -> dict[str, Any]:
    """Return the same of `first` and `next`, with a cache that a chunk left."""
    size = (1, LATENT_CHANNELS, frames, PATCH[1] * grid[0], PATCH[2] * grid[1])
    latents_BCTYX = torch.randn(size, generator=torch.Generator().manual_seed(0))
    module.names = None
    _, *cache = module(latents_BCTYX)
    names = module.cache_names(latents_BCTYX)
    caches = {f"{CACHE}{number:02}": tensor for number, tensor in enumerate(cache)}
    outputs = ("video", *(NEW + name for name in caches))
    inputs = {"latents": latents_BCTYX}
    return {"first": (inputs, outputs, None), "next": (inputs | caches, outputs, names)}


def source_digest(folder: Path) -> str:
    """Return a digest of the weights of a source."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        found.update(path.read_bytes())
    return f"sha256:{found.hexdigest()}"


def _function(
    function: str, exporter: str, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
) -> FunctionSpec:
    def specs(tensors: Mapping[str, Tensor]) -> tuple[TensorSpec, ...]:
        short: Any = "float16" if exporter == "coreml" else "float32"
        return tuple(
            TensorSpec(name=name, shape=tuple(x.shape), dtype=short if x.is_floating_point() else "int32")
            for name, x in tensors.items()
        )

    return FunctionSpec(name=function, file="", inputs=specs(inputs), outputs=specs(outputs))


def _write_onnx(
    programs: Mapping[str, ExportedProgram], specs: list[FunctionSpec], folder: Path, plugin: str
) -> dict[str, str]:
    from s2search.export.onnx_package import WEIGHTS, StoredWeights, write_graph

    with quiet(), (folder / WEIGHTS).open("wb") as file:
        weights = StoredWeights(file, folder)
        for spec in specs:
            inputs, outputs = [one.name for one in spec.inputs], [one.name for one in spec.outputs]
            metadata = {"s2search.part": plugin.partition("[")[0]}
            write_graph(programs[spec.name], weights, f"{spec.name}.onnx", inputs, outputs, metadata)
    return {spec.name: f"{spec.name}.onnx" for spec in specs}


def _write_coreml(
    programs: Mapping[str, ExportedProgram], specs: list[FunctionSpec], folder: Path, plugin: str
) -> dict[str, str]:
    import numpy as np

    from s2search.export.coreml import load_coremltools
    from s2search.export.coreml import quiet as silent

    coremltools, file = load_coremltools(), "model.mlpackage"
    type_of = {"float16": np.float16, "int32": np.int32}

    def features(tensors: tuple[TensorSpec, ...]) -> list[Any]:
        return [coremltools.TensorType(name=one.name, dtype=type_of[one.dtype]) for one in tensors]

    several = coremltools.utils.MultiFunctionDescriptor()
    with tempfile.TemporaryDirectory(dir=folder) as temporary, silent():
        for spec in specs:
            model = coremltools.convert(
                programs[spec.name],
                inputs=features(spec.inputs),
                outputs=features(spec.outputs),
                convert_to="mlprogram",
                minimum_deployment_target=coremltools.target.iOS18,
                compute_precision=coremltools.precision.FLOAT16,
                skip_model_load=True,
            )
            path = str(Path(temporary, f"{spec.name}.mlpackage"))
            model.save(path)
            several.add_function(path, src_function_name="main", target_function_name=spec.name)
        several.default_function_name = specs[0].name
        coremltools.utils.save_multifunction(several, str(folder / file))
    return dict.fromkeys((spec.name for spec in specs), file)


_WRITERS = {"onnx": _write_onnx, "coreml": _write_coreml}
