"""The command `export`: a model as a package for the phone's runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from s2search.api.values import PathText, loaded, model_of, plugin_of
from s2search.errors import InputError
from s2search.exporters.package import check_new_folder
from s2search.planner.plan import Plan
from s2search.preset import Preset, token_grid
from s2search.registry import parse
from s2search.streaming.prompt_list import PromptList

if TYPE_CHECKING:
    from s2search.exporters.base import Exporter
    from s2search.exporters.package import Package
    from s2search.exporters.prompt_tokens import PromptTokens
    from s2search.network.network import S2DiT
    from s2search.text.base import TextEncoder


def export(
    exporter: str | Exporter,
    out: PathText,
    weights: PathText | S2DiT | None = None,
    *,
    preset: str | Preset | None = None,
    random_weights: bool = False,
    plan: PathText | Plan | None = None,
    layout: str | None = None,
    video: str = "256x144",
    seed: int = 0,
    part: str | None = None,
    text: str | TextEncoder | None = None,
    prompts: PathText | None = None,
) -> Package:
    """Export a model's streaming step, or a part around it, as a package with the weights to verify it against.

    Args:
        exporter: `onnx`, `executorch`, `coreml[bits=4]` ..., or the exporter itself. Where a plan stands behind the
            model and no option of precision is named, it writes the precision of the plan's table, if it can.
        out: The package's folder; it must not exist yet.
        weights: A folder that save_pretrained wrote, or a model.
        preset: Model size, a TOML file of sizes, or the sizes; without weights.
        random_weights: Untrained weights: to try a runtime before there is a model.
        plan: Realize this plan (a JSON file, or the plan) at the preset's sizes.
        layout: Realize this layout: `L4S4`.
        video: Video size.
        seed: Of random weights.
        part: Instead of the step: `clip[folder=DIR]`, `wan[folder=DIR]` or `dct` (its decoder).
        text: The text encoder that the model was trained with; `hashing`, as wide as the model, by default. Ranges of
            8-bit activations come from streams of prompts, and verification streams one.
        prompts: A text file of one prompt a line; five of our own by default. The last is for verification.

    Raises:
        InputError: The options contradict each other, or the exporter cannot take the model.
    """
    from s2search.reporting.progress import progress_bar

    grid = token_grid(video)
    check_new_folder(Path(out))
    if part is not None:
        model_options: dict[str, object] = {"WEIGHTS": weights, "--preset": preset, "--plan": plan, "--layout": layout}
        model_options |= {"--text": text, "--prompts": prompts}
        _refuse_beside_part(model_options | {"--random-weights": random_weights, "--seed": seed})
        return _export_part(part, exporter, Path(out), grid)
    source = model_of(weights, preset=preset, random_weights=random_weights, plan=plan, layout=layout, seed=seed)
    chosen: Exporter = plugin_of("exporters", exporter)
    named = parse(exporter)[1] if isinstance(exporter, str) else exporter.options
    listed = None if prompts is None else PromptList.read(Path(prompts)).prompts
    model = loaded(source, mapped=True)
    if model.plan is not None and not named.keys() & {*chosen.precision_options}:
        chosen = _as_planned(chosen, model.plan)
    tokens = _tokens(text, listed, model.config.preset)
    with progress_bar("exporting") as progress:
        return chosen.export(model, grid, Path(out), progress, prompts=tokens)


def _as_planned(exporter: Exporter, plan: Plan) -> Exporter:
    """Return an exporter in the precision of a plan's table, or in those that the plan chose, if it can."""
    if plan.precisions is not None:
        return exporter.in_precisions(plan.precisions) or exporter
    return exporter.in_precision(plan.precision) or exporter


def _tokens(text: str | TextEncoder | None, prompts: tuple[str, ...] | None, preset: Preset) -> PromptTokens | None:
    """Return the tokens of prompts, where an encoder or prompts are named."""
    if text is None and prompts is None:
        return None
    from s2search.exporters.prompt_tokens import PROMPTS, PromptTokens

    hashing = f"hashing[channels={preset.text_channels},tokens={preset.text_tokens}]"
    return PromptTokens.of(plugin_of("texts", text or hashing), prompts or PROMPTS)


def _refuse_beside_part(options: dict[str, object]) -> None:
    """Refuse what is for a streaming step only, which would be lost in silence."""
    for name, value in options.items():
        if value:
            raise InputError(
                f"{name} cannot be combined with --part, which has no such model", remedy="leave one of them out"
            )


def _export_part(part: str, exporter: str | Exporter, out: Path, grid: tuple[int, int]) -> Package:
    from s2search.exporters.component.package import export_component
    from s2search.reporting.progress import progress_bar

    written = exporter if isinstance(exporter, str) else exporter.label
    with progress_bar("exporting") as progress:
        return export_component(part, written, out, progress, grid=grid)
