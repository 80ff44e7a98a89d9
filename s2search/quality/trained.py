"""trained: what was measured of models that were trained, for the steps, chunks and layouts that there are.

Two documents of training runs hold a quality with its error: `distance.json`, how far a model's clips are from real
ones, and `compare.json`, by how much models that were trained alike lose more than the best. Both are read here by the
few fields that count, since what writes them stands on torch, and stands above.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
from typing_extensions import override

from s2search.border.regular_file import is_file
from s2search.cost import CommitPolicy
from s2search.errors import QualityError
from s2search.preset import PATCH, video_size
from s2search.quality.base import ERRORS_TO_DIFFER, Judgement, Quality, Setting
from s2search.quality.figure import Figure, written
from s2search.quality.measured import read_document, read_first_line
from s2search.quality.seeds import across_seeds

Metric = Literal["distance", "loss"]

_FILES: dict[Metric, tuple[str, ...]] = {
    "distance": ("distance.json", "distance/distance.json"),
    "loss": ("compare.json", "rival/compare.json"),
}
_STAGES, _BEGUN_WITH = "stages.json", "consistency/model"
_CONFIG, _SAMPLES = "config.json", "samples/*/generated.jsonl"
_WEIGHTS, _SHORT = "model", 19  # "sha256:" and twelve digits name a file in a sentence
_UP = 3  # folders above a document from which the names in it may count


class _Sizes(msgspec.Struct, frozen=True):
    depth: int
    channels: int
    chunk_frames: int
    window_chunks: int


class _Causal(msgspec.Struct, frozen=True):
    commit: CommitPolicy


class _Model(msgspec.Struct, frozen=True):
    schema: Literal["s2search.model/1"]
    preset: _Sizes
    layout: tuple[str, ...]
    causal: _Causal | None = None


class _Distance(msgspec.Struct, frozen=True):
    mmd: float
    mmd_error: float


class _Row(msgspec.Struct, frozen=True):
    name: str
    kind: str
    distances: dict[str, _Distance]
    steps: int | None = None
    sampler: str | None = None
    weights: str | None = None


class _Network(msgspec.Struct, frozen=True):
    digest: str


class _Distances(msgspec.Struct, frozen=True):
    schema: Literal["s2search.distance/1"]
    data: str
    samples: int
    networks: dict[str, _Network]
    rows: tuple[_Row, ...]


class _Generated(msgspec.Struct, frozen=True):
    schema: Literal["s2search.generated/1"]
    weights: str
    steps: int
    latent_size: tuple[int, int, int, int]


class _Contender(msgspec.Struct, frozen=True):
    name: str
    trained_as: str
    layouts: tuple[tuple[str, ...], ...]
    behind: float
    behind_error: float


class _Comparison(msgspec.Struct, frozen=True):
    schema: Literal["s2search.run_comparison/1"]
    seeds: tuple[int, ...]
    steps: int
    samples: int
    data: str
    errors_to_differ: float
    contenders: tuple[_Contender, ...]


@dataclass(frozen=True, kw_only=True)
class Trained(Quality):
    """Figures of training runs, of models that are what the design is: in depth, width, video, layout and all else.

    A distance is of a model that streams, in the steps that it was asked in. Its error is that of the clips: what
    another training of the same model would give is not in it. A loss is of models before they stream, and says nothing
    of steps, chunks and windows.

    Attributes:
        run: A folder of `run`, `distance measure` or `train compare`, or the document itself.
        metric: `distance` or `loss`; by default what is there, distances first.
        network: By whose features distances are; the two need not agree.
        model: Only models whose folder or name has this in it.
        models: The folder from which the names of models count, where they do not lie as they were measured.
        seeds: Take models of one design for one training under several seeds: distances are their means, and errors
            have what seeds change. Losses have that without it.
        stand_in: Let models of other sizes stand in for designs. A distance then orders designs of one size by steps,
            chunks, window and commit, whatever their layouts; a loss orders layouts of the same depth.

    Raises:
        QualityError: There is no such document, a model is gone, or two models are one design without `seeds`.
    """

    run: str
    metric: Metric | None = None
    network: str = "trained"
    model: str = ""
    models: str = ""
    seeds: bool = False
    stand_in: bool = False

    statement = (
        "measured of models that were trained: distances have the errors of the clips, not those of another training; "
        "losses say nothing of steps, chunks and windows"
    )

    def __post_init__(self) -> None:
        if not self._figures:
            raise QualityError(
                f"{str(self._asked[1])!r} has no model that a design could be",
                allowed="models that stream, and losses of one layout each",
                remedy="measure one, or name another run" if not self.model else f"look at model={self.model}",
            )

    @property
    @override
    def digest(self) -> str:
        figures = [[sorted(one.when.items()), one.value, one.error, one.metric] for one in self._figures]
        return f"sha256:{hashlib.sha256(msgspec.json.encode([self.stand_in, figures])).hexdigest()}"

    @override
    def judge(self, setting: Setting) -> Judgement | None:
        found = next((figure for figure in self._figures if figure.fits(setting)), None)
        free = ("layout",) if self.stand_in else ()
        return None if found is None else found.judgement(setting, "measured", free=free)

    @property
    @override
    def layouts(self) -> tuple[tuple[str, ...], ...]:
        return tuple(dict.fromkeys(figure.when["layout"] for figure in self._figures if "layout" in figure.when))

    @cached_property
    def _asked(self) -> tuple[Metric, Path]:
        """What is read, and the document."""
        run = Path(self.run)
        metrics: list[Metric] = [self.metric] if self.metric else ["distance", "loss"]
        for metric in metrics:
            for file in _FILES[metric]:
                path = run if run.name == Path(file).name else run / file
                if is_file(path):
                    return metric, path
        names = " nor ".join(Path(_FILES[metric][0]).name for metric in metrics)
        raise QualityError(
            f"{self.run!r} has no {names}", remedy="name a folder of `run`, `distance measure` or `train compare`"
        )

    @cached_property
    def _figures(self) -> tuple[Figure, ...]:
        metric, path = self._asked
        groups: dict[str, list[Figure]] = {}
        for figure in self._distances(path) if metric == "distance" else self._losses(path):
            groups.setdefault(repr(sorted(figure.when.items())), []).append(figure)
        together = self.seeds and metric == "distance"
        for group in groups.values():
            alike = together and len({one.metric for one in group}) == 1
            if len(group) > 1 and not alike:
                several = "" if together else ", or say that they are one training under several seeds (seeds=true)"
                raise QualityError(
                    f"{group[0].source} and {group[1].source} are one design",
                    remedy=f"name a part of the name of the one that counts (model=...){several}",
                )
        return across_seeds([*groups.values()]) if together else tuple(group[0] for group in groups.values())

    def _distances(self, path: Path) -> Iterator[Figure]:
        """Yield the distances of models that stream."""
        document = read_document(path, _Distances, what="measurement of distances")
        if self.network not in document.networks:
            known = ", ".join(document.networks)
            raise QualityError(f"{str(path)!r} has no network {self.network!r}", allowed=f"it has: {known}")
        digest = document.networks[self.network].digest[:_SHORT]
        clips = f"{document.samples} clips of the data {document.data[:_SHORT]}"
        sizes = _latent_sizes(path)
        for row in self._rows(document, path):
            model = self._model(path, Path(row.name))
            if model.causal is None or row.steps is None:
                continue
            _check_same(path, row, model.causal.commit)
            yield Figure(
                when=_stream(model, model.causal, row.steps) | self._sides(model, sizes.get((row.weights, row.steps))),
                value=0.0 - row.distances[self.network].mmd,
                error=row.distances[self.network].mmd_error,
                metric=f"minus MMD^2 by the {self.network} network {digest}, {clips}{self._of(model)}",
                source=f"{str(path)!r}, {row.name}, {row.steps} steps",
            )

    def _rows(self, document: _Distances, path: Path) -> Iterator[_Row]:
        """Yield the rows of models that count. In a run, `consistency` leaves what `self_forcing` begins with."""
        of_run = (path.parent.parent / _STAGES).is_file()
        for row in document.rows:
            if row.kind == "model" and self.model in row.name and not (of_run and row.name == _BEGUN_WITH):
                if self.network not in row.distances:
                    raise QualityError(
                        f"{str(path)!r} has no distance of {row.name!r} by {self.network!r}", remedy="measure it again"
                    )
                yield row

    def _losses(self, path: Path) -> Iterator[Figure]:
        """Yield how much more than the best each contender of one layout loses, with a minus.

        Errors are as large as it takes for what the comparison does not call worse to be equal here too: of few seeds,
        more than 1.96 standard errors are asked.
        """
        document = read_document(path, _Comparison, what="comparison of training runs")
        trained = f"{len(document.seeds)} seeds of {document.steps} steps, {document.samples} samples"
        for contender in document.contenders:
            once = len(contender.layouts) == 1 and contender.trained_as == contender.name  # else runs under two names
            if not once or self.model not in contender.name:
                continue
            model = self._model(path, Path(contender.name, str(document.seeds[0]), _WEIGHTS))
            yield Figure(
                when={"layout": contender.layouts[0]} | self._sides(model, None),
                value=0.0 - contender.behind,
                error=contender.behind_error * document.errors_to_differ / ERRORS_TO_DIFFER,
                metric=f"minus the loss beyond the best one's; {trained} of the data {document.data[:_SHORT]}",
                source=f"{str(path)!r}, {contender.name}",
            )

    def _sides(self, model: _Model, latent_size: tuple[int, int, int, int] | None) -> dict[str, Any]:
        """Return a model's sizes and layout, as a design has them; nothing of one that stands in."""
        if self.stand_in:
            return {}
        sizes: dict[str, Any] = {"depth": model.preset.depth, "channels": model.preset.channels}
        if latent_size is not None:
            sizes["video"] = video_size(latent_size[2] // PATCH[1], latent_size[3] // PATCH[2])
        return sizes | {"layout": model.layout}

    def _of(self, model: _Model) -> str:
        """Return what stands in, for the scale: models that differ in more than how they stream are not compared."""
        sizes = f"{model.preset.channels} channels, {written(model.layout)}"
        return f", of stand-ins of {sizes}" if self.stand_in else ""

    def _model(self, path: Path, name: Path) -> _Model:
        """Return the config of a model that a document names by the folder of its weights.

        Raises:
            QualityError: It is not where it was, or several are.
        """
        starts = [Path(self.models)] if self.models else [*path.absolute().parents[:_UP], Path.cwd()]
        there = [start / name / _CONFIG for start in starts]
        found = list(dict.fromkeys(config.resolve() for config in there if is_file(config)))
        if len(found) != 1:
            folders = f"{len(found)} folders are" if found else "no folder is"
            raise QualityError(
                f"{folders} the {str(name)!r} of {str(path)!r}",
                remedy="name the folder from which such names count: models=FOLDER",
            )
        return read_document(found[0], _Model, what="config of a model")


def _stream(model: _Model, causal: _Causal, steps: int) -> dict[str, Any]:
    """Return how a model streams, as a design has it."""
    sizes = model.preset
    return {
        "steps": steps,
        "chunk_frames": sizes.chunk_frames,
        "window_chunks": sizes.window_chunks,
        "commit": causal.commit,
    }


def _check_same(path: Path, row: _Row, commit: str) -> None:
    """Raise unless a row was measured of a model that streams as it does now."""
    told = row.sampler or ""
    if not (told.startswith("chunk by chunk") and told.endswith(commit)):
        raise QualityError(
            f"{row.name!r} commits by {commit}, and {str(path)!r} measured it so: {told[:60]}",
            remedy="measure it again",
        )


def _latent_sizes(path: Path) -> dict[tuple[str | None, int], tuple[int, int, int, int]]:
    """Return channels, frames, rows and columns of the samples beside a measurement, by weights and steps."""
    journals = sorted(path.parent.glob(_SAMPLES))
    found = [read_first_line(journal, _Generated, what="journal of samples") for journal in journals]
    return {(one.weights, one.steps): one.latent_size for one in found}
