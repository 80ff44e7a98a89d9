"""The stages of `run`, each a call of the command of its name; paths count from the folder of the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from s2search import registry
from s2search.document import as_json, read_json, write_text
from s2search.errors import InputError
from s2search.pipeline.settings import PipelineSettings

if TYPE_CHECKING:
    from s2search.codec.video import Frames
    from s2search.network.config import ModelConfig
    from s2search.planner.plan import Plan
    from s2search.training.data.clips import Clips

SIZES = "sizes.toml"
PLAN, RIVAL_PLAN, SCORE = Path("plan/plan.json"), Path("plan/rival.json"), Path("score/score.json")
RIVAL, CHECK, CLIP, STRIP = Path("rival/rival.json"), Path("check/check.json"), Path("stream/clip.mp4"), "strip.png"
STREAMED, PACKAGE, VERIFIED = Path("stream/clips.json"), Path("export/package"), Path("verify/report.json")
TIMES = Path("stream/times.json")
NETWORKS = Path("networks/networks.safetensors")
DISTANCES, REFUSED = Path("distance/distance.json"), Path("distance/refused.txt")
#: Of the stages that train: the trainer, its options beside the stage's own, and whose weights it begins with.
TRAINED = {
    "teacher": ("flow", "", ""),
    "flow": ("flow", "", "realize/model"),
    "distill": ("distill", "cache=cache", "flow/model"),
    "causal": ("causal", "", "distill/model"),
    "consistency": ("causal_consistency", "", "causal/model"),
    "self_forcing": (
        "self_forcing",
        "critic=distill/model,teacher=local[folder=teacher/model]",
        "consistency/model",
    ),
}
_STRIP_FRAMES = 5


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What makes each stage.

    Attributes:
        settings: Of the whole way.
    """

    settings: PipelineSettings

    @property
    def bodies(self) -> Mapping[str, Callable[[Path], None]]:
        """All of them but the report, by name."""
        trained = {name: self._trains(name) for name in TRAINED}
        return trained | {
            "data": self._data,
            "networks": self._networks,
            "score": self._score,
            "plan": self._plan,
            "realize": self._realize,
            "rival": self._rival,
            "cache": self._cache,
            "distance": self._distance,
            "stream": self._stream,
            "export": self._export,
            "verify": self._verify,
            "check": self._check,
        }

    def trainer(self, name: str) -> str:
        """Return the trainer of a stage as people write it."""
        trainer, own, _ = TRAINED[name]
        if name == "causal":
            own = f"commit={self.settings.plan.commit}"
        if name == "self_forcing" and self.settings.distance.samples:
            own += f",distance={NETWORKS}"
        options = ",".join(filter(None, (own, self.settings.trained[name].options)))
        return f"{trainer}[{options}]" if options else trainer

    def run_settings(self, name: str, model: Mapping[str, str]) -> dict[str, Any]:
        """Return what a stage that trains asks of `train`."""
        stage = self.settings.trained[name]
        engine = msgspec.structs.replace(stage.engine, device=self.settings.device)
        tables = {"optimizer": stage.optimizer, "engine": engine, "judge": stage.judge}
        return {
            "trainer": self.trainer(name),
            "data": "data",
            "text": self.settings.text,
            "model": dict(model),
            **{key: msgspec.to_builtins(table) for key, table in tables.items()},
        }

    def plan(self, score: str, layout: str | None = None) -> Plan:
        """Return the plan by a score, or the price of a layout.

        Raises:
            InfeasibleError: No layout is within the budgets.
        """
        from s2search.api.plan import plan

        asked = self.settings.plan
        return plan(
            asked.table,
            depth=self.settings.model.depth,
            candidates=self.settings.score.candidates,
            score=score,
            budget=asked.budget,
            commit=asked.commit,
            layout=layout,
            solver=asked.solver,
            latency_model=asked.latency_model,
            video=asked.video,
        )

    def _data(self, folder: Path) -> None:
        from s2search.api.data import data_make

        asked = self.settings.data
        made = data_make(
            asked.sources,
            folder,
            video=asked.video,
            frames=asked.frames,
            codec=asked.codec,
            clips=asked.clips,
            stride=asked.stride,
            held_out=asked.held_out,
            seed=self.settings.seed,
            device=self.settings.device,
        )
        # Too few clips are said before hours of training.
        with _mended_by("distance.samples"):
            if samples := self.settings.distance.samples:
                from s2search.training.distance.measure import halves

                halves(made, samples)
        with _mended_by('self_forcing.options="watch_every=0"'):
            registry.create("trainers", self.trainer("self_forcing")).check_held_out(made)

    def _networks(self, folder: Path) -> None:
        from s2search.api.distance import distance_train

        asked = self.settings.distance
        if asked.samples:
            distance_train("data", NETWORKS, features=asked.features, steps=asked.learning, seed=self.settings.seed)

    def _trains(self, name: str) -> Callable[[Path], None]:
        def train_it(folder: Path) -> None:
            from s2search.api.train import train

            weights, depth = TRAINED[name][2], self.settings.model.depth
            # Full attention in every layer is what the score compares blocks with.
            model = {"weights": weights} if weights else {"preset": SIZES, "layout": f"F{depth}"}
            outcome = train(self.run_settings(name, model) | {"seed": self.settings.seed}, folder)
            if outcome.interrupted:
                raise KeyboardInterrupt

        return train_it

    def _score(self, folder: Path) -> None:
        from s2search.api.score import score_measure

        asked = self.settings.score
        score_measure(
            "teacher/model",
            "data",
            folder,
            candidates=asked.candidates,
            steps=asked.steps,
            batch=asked.batch,
            samples=asked.samples,
            lr=asked.lr,
            shift=asked.shift,
            text=self.settings.text or None,
            seed=self.settings.seed,
            device=self.settings.device,
        )

    def _plan(self, folder: Path) -> None:
        found = self.plan(str(SCORE))
        if self.settings.rival.seeds:
            layout, why = self._rival_layout(found)
            self.plan(str(SCORE), layout).save(RIVAL_PLAN)
            write_text(folder / "rival.txt", f"{why}\n")
        found.save(PLAN)

    def _rival_layout(self, planned: Plan) -> tuple[str, str]:
        """Return the layout that the plan is held against, and why that one."""
        from s2search.pipeline.rival import most_different
        from s2search.score.measured import MeasuredScore

        asked = self.settings.plan.rival
        if asked == "published":
            published = self.plan("published")
            if published.layout != planned.layout:
                return published.written, "the plan by the score published, within the same budget"
        elif asked != "most_different":
            return asked, "named in the settings"
        layout = most_different(MeasuredScore.load(SCORE), planned.layout)
        return ",".join(f"{label}*1" for label in layout), "the most different order of the plan's blocks"

    def _realize(self, folder: Path) -> None:
        """Draw the plan's first weights, which answer with the velocity of unit Gaussian latents."""
        from s2search.network.random_weights import RandomS2DiT
        from s2search.training.prepare import PreparedRun
        from s2search.training.settings import RunSettings

        asked = self.run_settings("flow", {"preset": SIZES, "plan": str(PLAN)})
        prepared = PreparedRun.of(RunSettings.of(asked))
        drawn = RandomS2DiT(prepared.begun, plan=prepared.plan, seed=self.settings.seed, silent=True)
        drawn.save_pretrained(folder / "model")

    def _rival(self, folder: Path) -> None:
        from s2search.api.compare import train_compare
        from s2search.pipeline.rival import RivalResult, promised
        from s2search.planner.plan import Plan
        from s2search.score.measured import MeasuredScore

        asked = self.settings.rival
        if not asked.seeds:
            return
        contenders = {"planned": {"model.plan": str(PLAN)}, "rival": {"model.plan": str(RIVAL_PLAN)}}
        shared = self.run_settings("flow", {"preset": SIZES})
        found = train_compare(
            {
                "seeds": asked.seeds,
                "samples": asked.samples,
                "shift": self.settings.score.shift,
                "run": shared,
                "contenders": contenders,
            },
            folder,
        )
        by_name = {one.name: one for one in found.contenders}
        planned, rival = by_name["planned"], by_name["rival"]
        score, plans = MeasuredScore.load(SCORE), [Plan.load(path) for path in (PLAN, RIVAL_PLAN)]
        lead, error = promised(score, plans[0].layout, plans[1].layout)
        RivalResult(
            score=score.digest,
            planned=plans[0].written,
            rival=plans[1].written,
            chosen=Path("plan/rival.txt").read_text(encoding="utf-8").strip(),
            promised=lead,
            promised_error=error,
            measured=rival.loss - planned.loss,
            measured_error=max(planned.behind_error, rival.behind_error),  # that of the best one is 0
            seeds=asked.seeds,
            steps=found.steps,
            samples=found.samples,
        ).save(RIVAL)

    def _cache(self, folder: Path) -> None:
        from s2search.api.cache import cache_make

        asked = self.settings.cache
        cache_make(
            "local[folder=teacher/model]",
            "data",
            folder,
            levels=asked.levels,
            seed=self.settings.seed,
            store=asked.store,
            batch=asked.batch,
            device=self.settings.device,
        )

    def _distance(self, folder: Path) -> None:
        from s2search.api.distance import distance_measure

        asked = self.settings.distance
        if not asked.samples:
            write_text(REFUSED, "not asked for: distance.samples is 0\n")
            return
        measured = partial(
            distance_measure, data="data", network=NETWORKS, samples=asked.samples, seed=self.settings.seed
        )
        (folder / "blank").mkdir(exist_ok=True)
        try:
            measured(out=folder / "blank")  # without a model: whether the measure sees what it must
        except InputError as error:
            if "blind" not in error.fields:
                raise
            write_text(REFUSED, f"{error}\n")
            return
        names = ("teacher", "distill", "causal", "consistency", "self_forcing")
        models = [f"{name}/model" for name in names]
        measured(models, out=folder, batch=asked.batch, text=self.settings.text or None, device=self.settings.device)

    def _stream(self, folder: Path) -> None:
        from s2search.codec.video import VideoWriter, png
        from s2search.pipeline.side_by_side import side_by_side
        from s2search.pipeline.teacher_clip import most_common_caption
        from s2search.training.data.clips import Clips

        asked, clips = self.settings.stream, Clips.load(Path("data"))
        prompt = asked.prompt or most_common_caption(clips)
        made: dict[str, Frames] = {}
        times: dict[str, float] = {}
        for name, make in self._clips(folder, clips, prompt).items():
            began_s = time.monotonic()
            made[name] = make()
            times[name] = round(len(made[name]) / (time.monotonic() - began_s), 3)
        frames_THWC = side_by_side(made, asked.scale)
        with VideoWriter(CLIP, fps=asked.fps) as writer:
            writer.append(frames_THWC)
        chosen = frames_THWC[np.linspace(0, len(frames_THWC) - 1, _STRIP_FRAMES).round().astype(int)]
        (folder / STRIP).write_bytes(png(chosen.reshape(-1, *chosen.shape[2:])))
        write_text(TIMES, as_json(times))
        write_text(STREAMED, as_json({"prompt": prompt, "frames": {name: len(one) for name, one in made.items()}}))

    def _clips(self, folder: Path, clips: Clips, prompt: str) -> dict[str, Callable[[], Frames]]:
        from s2search.pipeline.teacher_clip import teacher_clip

        asked, left = self.settings, _config("self_forcing/model")
        assert left.causal is not None
        assert left.causal.schedule is not None
        count, few = asked.stream.steps, len(left.causal.schedule)
        return {
            f"teacher, {count} steps": lambda: teacher_clip(
                Path("teacher/model"),
                clips,
                prompt,
                steps=count,
                seed=asked.seed,
                text=asked.text,
                codec=asked.data.codec,
                device=asked.device,
            ),
            f"causal, {count} steps": lambda: self._streamed(folder / "causal.mp4", "causal/model", prompt, count),
            f"{few} steps": lambda: self._streamed(folder / "few.mp4", "self_forcing/model", prompt, few),
        }

    def _streamed(self, out: Path, weights: str, prompt: str, steps: int) -> Frames:
        from s2search.api.stream import stream
        from s2search.codec.video import read_video
        from s2search.reporting.stream import StreamReport
        from s2search.training.data.clips import Clips

        asked, latent_frames = self.settings, Clips.load(Path("data")).heading.latent_size[1]
        report = stream(
            out,
            weights,
            prompt=prompt,
            chunks=latent_frames // _config(weights).preset.chunk_frames,
            video=asked.data.video,
            fps=asked.stream.fps,
            seed=asked.seed,
            text=asked.text or None,
            codec=asked.data.codec,
            device=asked.device,
            threads=1,  # a trial of several would leave other bits
            steps=steps,
        )
        assert isinstance(report, StreamReport)  # of one clip
        if report.interrupted:
            raise KeyboardInterrupt
        return read_video(out)

    def _export(self, folder: Path) -> None:
        from s2search.api.export import export

        asked = self.settings
        text = asked.text or None
        export(asked.export.exporter, PACKAGE, "self_forcing/model", video=asked.data.video, text=text)

    def _verify(self, folder: Path) -> None:
        from s2search.api.verify import verify

        verify(PACKAGE, chunks=self.settings.verify.chunks, seed=self.settings.seed, out=VERIFIED)

    def _check(self, folder: Path) -> None:
        from s2search.exporters.package import Package
        from s2search.pipeline.result import PackageCheck
        from s2search.planner.plan import Plan

        planned, model = Plan.load(PLAN), Package.load(PACKAGE).manifest.model
        priced = self.plan(str(SCORE), ",".join(f"{label}*1" for label in model.layout))
        PackageCheck(
            layout=priced.written,
            planned=planned.written,
            same_plan=model.plan_digest == planned.digest,
            latency_ms=priced.latency_ms.predicted,
            planned_ms=planned.latency_ms.predicted,
            fits=priced.fits,
        ).save(CHECK)


def _config(weights: str) -> ModelConfig:
    from s2search.network.config import CONFIG, ModelConfig

    return read_json(Path(weights) / CONFIG, ModelConfig, what="model config")


@contextmanager
def _mended_by(setting: str) -> Iterator[None]:
    """Let an error about too few clips name the settings that would mend it."""
    try:
        yield
    except InputError as error:
        remedy = f"change data.source, data.clips or data.held_out, or {setting}"
        raise InputError(error.problem, allowed=error.allowed, remedy=remedy) from error
