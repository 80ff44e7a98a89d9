"""Whatever is wrong with a run is said in one line, before anything is made."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from s2search.api.data import data_make
from s2search.api.distance import distance_train
from s2search.api.stages import TRAINED, Stages
from s2search.document import write_text
from s2search.errors import InputError
from s2search.pipeline.execute import execute, opened
from s2search.pipeline.settings import PipelineSettings, preset_names, stated_by
from s2search.pipeline.stages import PARENTS, Stage, stages_of
from tests.command import Outcome


@pytest.mark.parametrize("preset", preset_names())
def test_a_shipped_preset_is_a_question_that_can_be_asked(preset: str, s2search: Callable[..., Outcome]) -> None:
    outcome = s2search("run", "--preset", preset, "--dry-run")
    assert (outcome.code, outcome.err) == (0, "")
    assert [line.split()[0] for line in outcome.out.splitlines()] == list(PARENTS)
    assert outcome.out.count("was not made yet") == len(PARENTS)


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        ("--preset huge", "no preset of a pipeline is called 'huge'; shipped, or a .toml file: nano, small, tiny", 2),
        ("--preset no.toml", "the pipeline 'no.toml' cannot be read", 2),
        ("--until verfy", "no stage is called 'verfy' (did you mean 'verify'?); stages: data, networks", 2),
        ("--set flow.steps=3", "no setting of a pipeline is called 'flow.steps' (did you mean", 2),
        ("--set flow.optimizer.steps=many", "the setting flow.optimizer.steps", 2),
        ("--set flow.options=shfit=3", "no option of trainer 'flow' is called 'shfit'", 2),
        ("--set distill.options=cache=mine", "gives the option 'cache' twice", 2),
        ('--set export.exporter=""', "no exporter is named; coreai, coreml,", 2),
        ("--set export.exporter=onxx", "no exporter is called 'onxx'", 2),
        ("--set data.frames=13 --set model.chunk_frames=3", "have 4 latent frames, and chunks 3", 2),
        ("--set plan.budget=1ms", "no layout fits 1 ms: the fastest of 16", 3),
        ("--set plan.budget=fast", "'fast'", 2),
        ("--set model.heads=5", "heads", 2),
        ("--set data.held_out=2", "data.held_out is 2.0; above 0 and below 1: models are judged", 2),
        ("--set stream.scale=0", "stream.scale is 0; 1 or more", 2),
        ("--set stream.fps=nan", "stream.fps is nan; above 0, at most 1000", 2),
        ("--set score.samples=-3", "score.samples is -3; 2 or more", 2),
        ("--set score.lr=nan", "score.lr is nan; above 0", 2),
        ("--set score.steps=[4,-2]", "score.steps are [4, -2]; two numbers from 1", 2),
        ("--set cache.levels=0", "cache.levels is 0; 1 or more", 2),
        ("--set rival.samples=-1", "rival.samples is -1; 2 or more", 2),
        ("--set rival.seeds=[1,1]", "rival.seeds are [1, 1]; each once", 2),
        ("--set plan.rival=XY", "no candidate of this layout is called 'X'", 2),
        ("--set device=gpu", "no device 'gpu'", 2),
        ("--set text=foo", "no text encoder is called 'foo'", 2),
        ("--set text=hashing[channels=8]", "tokens of hashing[channels=8] have 8 channels", 2),
        ("--set causal.optimizer.lr=nan", "causal.optimizer.lr is nan; above 0", 2),
        ("--set teacher.judge.samples=-2", "teacher.judge.samples is -2", 2),
    ],
)
def test_what_cannot_be_is_said_in_one_line_and_nothing_is_made(
    words: str, said: str, code: int, tmp_path: Path, s2search: Callable[..., Outcome]
) -> None:
    outcome = s2search("run", "--out", "out", *words.split())
    assert outcome.code == code
    assert said in outcome.err, outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, s2search: Callable[..., Outcome]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("mine")
    outcome = s2search("run", "--out", "out")
    assert outcome.code == 2
    assert "not the folder of a run: it has 'thesis.txt'" in outcome.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_every_setting_is_of_some_stage_so_that_a_change_is_never_lost(tmp_path: Path) -> None:
    stated = stated_by("nano")
    before = {stage.name: stage.settings for stage in stages_of(PipelineSettings.of(stated), "sha256:t")}
    told = {
        *(f"{name}.{key}" for name, stage in before.items() for key in stage),
        *(key for stage in before.values() for key in stage),
    }

    def keys(found: object, of: str = "") -> list[str]:
        if not isinstance(found, dict):
            return [of.rstrip(".")]
        return [key for name, inner in found.items() for key in keys(inner, f"{of}{name}.")]

    for key in keys(msgspec.to_builtins(PipelineSettings.of(stated))):
        assert key in told, key


def test_what_looks_by_networks_is_made_again_by_other_networks_and_by_no_others_samples(tmp_path: Path) -> None:
    def made(**distance: int) -> set[str]:
        """Return the stages that are made where no stage's files depend on those of another."""
        stages, told = stages_of(PipelineSettings.of(stated_by("nano") | {"distance": distance}), "sha256:t"), []

        def body(stage: Stage) -> Callable[[Path], None]:
            return lambda place: write_text(place / "settings.txt", str(dict(stage.settings)))

        with opened(tmp_path):
            execute(tmp_path, stages, {one.name: body(one) for one in stages}, lambda found, _: told.append(found))
        return {found.stage for found in told if found.fate != "kept"}

    assert made(samples=0, features=2) == {*PARENTS}
    readers = {"networks", "self_forcing", "distance"}
    assert made(samples=8, features=2) - {"report"} == readers
    assert made(samples=16, features=2) - {"report"} == {"distance"}
    assert made(samples=16, features=2, learning=9) - {"report"} == readers


def test_a_stage_that_trains_reads_only_its_parents(tmp_path: Path) -> None:
    for samples in (0, 8):
        whole = Stages(
            settings=PipelineSettings.of(stated_by("nano") | {"distance": {"samples": samples, "features": 2}})
        )
        for name, (_, _, weights) in TRAINED.items():
            read = {*re.findall(r"(\w+)/", f"{whole.trainer(name)} {weights}")}
            assert read <= {*PARENTS[name]}, name
            assert ("networks" in read) == (name == "self_forcing" and samples > 0)


def test_networks_of_a_run_are_those_of_its_seed_and_there_where_distances_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.chdir(tmp_path)
    data_make("shapes[count=16]", "data", video="32x32", frames=9, clips=2, held_out=0.5)
    for samples in (0, 8):
        asked = {"seed": 3, "distance": {"samples": samples, "features": 2, "learning": 2}}
        Path("networks").mkdir(exist_ok=True)
        Stages(settings=PipelineSettings.of(stated_by("nano") | asked)).bodies["networks"](Path("networks"))
        assert any(Path("networks").iterdir()) == bool(samples)
    distance_train("data", "own.safetensors", features=2, steps=2, seed=3)
    assert Path("networks/networks.safetensors").read_bytes() == Path("own.safetensors").read_bytes()


def test_paths_mean_the_same_from_the_folder_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "videos").mkdir()
    monkeypatch.chdir(tmp_path)
    for given in ("videos", "files[path=videos]"):
        (source,) = PipelineSettings.of({"data": {"source": given}}).data.sources
        assert source == given.replace("videos", str(tmp_path / "videos"))
    assert PipelineSettings.of({"data": {"source": "shapes[count=3]"}}).data.sources == ("shapes[count=3]",)


def test_a_score_is_recalibrated_by_a_run_that_has_a_rival(tmp_path: Path, s2search: Callable[..., Outcome]) -> None:
    (tmp_path / "empty").mkdir()
    for words, said in {
        "": "neither a table nor --score is given",
        "h100 --score empty": "a table and --score are given",
        "--score empty": "'empty' has no rival's result; s2search run --out empty --until rival",
    }.items():
        outcome = s2search("recalibrate", *words.split())
        assert outcome.code == 2
        assert said in outcome.err
    with pytest.raises(InputError):
        PipelineSettings.of({"rival": {"seed": 1}})


def test_too_few_clips_for_distances_are_told_before_anything_is_trained(
    tmp_path: Path, s2search: Callable[..., Outcome]
) -> None:
    sets = ("data.source=shapes[count=8]", "distance.samples=32", "distance.features=8")
    outcome = s2search("run", "--out", "out", *(word for one in sets for word in ("--set", one)))
    assert outcome.code == 2
    assert "32 samples need 64 held-out clips" in outcome.err
    assert not (tmp_path / "out/teacher").exists()
    few = s2search("run", "--out", "few", "--set", "data.source=shapes[count=10]", "--set", "data.clips=1")
    assert few.code == 2
    assert "2 held-out clips of 2 recordings; 8 or more of 3 or more" in few.err
    assert "change data.source, data.clips or data.held_out" in few.err
    assert "watch_every=0" in few.err
    assert not (tmp_path / "few/teacher").exists()


def test_a_source_may_name_a_path_among_its_options(tmp_path: Path, s2search: Callable[..., Outcome]) -> None:
    (tmp_path / "all/videos").mkdir(parents=True)
    outcome = s2search("data", "make", "files[path=all/videos]", "--out", "out")
    assert outcome.code == 2
    assert "there is no 'files[" not in outcome.err
    assert "all/videos" in outcome.err
