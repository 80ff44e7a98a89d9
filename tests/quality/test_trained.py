from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats

from s2search.document import as_json, write_text
from s2search.errors import InputError, QualityError
from s2search.network.config import CausalForm, ModelConfig
from s2search.preset import Preset
from s2search.quality.base import Setting, compare
from s2search.quality.file import open_quality
from s2search.quality.seeds import T_975
from s2search.quality.trained import Trained
from s2search.testing.qualities import check_quality
from s2search.training.compare.result import ContenderResult, RunComparison
from s2search.training.distance.documents import Distances, GeneratedHeading

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "notebooks" / "quality" / "steps"
LAYOUT = ("lcha", "ssa", "ssa", "lcha", "ssa", "lcha")
SMALL = Setting(
    preset="sizes",
    depth=6,
    channels=64,
    video="128x64",
    steps=4,
    chunk_frames=3,
    window_chunks=2,
    commit="clean_pass",
    precision="float32",
    layout=LAYOUT,
)
FRAMES = dataclasses.replace(SMALL, chunk_frames=1, window_chunks=6)
PHONE = dataclasses.replace(SMALL, preset="s2dit-1.8b", depth=28, channels=2048, video="512x288", layout=("ssa",) * 28)


def distances(folder: Path = MEASURED) -> Distances:
    return msgspec.json.decode((folder / "distance" / "distance.json").read_bytes(), type=Distances)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of what was measured, to be changed."""
    return Path(shutil.copytree(MEASURED, tmp_path / "steps"))


def rewrite(run: Path, **changes: Any) -> None:
    dataclasses.replace(distances(run), **changes).save(run / "distance" / "distance.json")


def compared(run: Path, layouts: dict[str, tuple[tuple[str, ...], float, float]], **changes: Any) -> Path:
    """Write a comparison as `train compare` does, with a config for every contender."""
    contenders = []
    for rank, (name, (layout, behind, error)) in enumerate(layouts.items(), 1):
        own = {"name": name, "rank": rank, "trained_as": name, "layouts": (layout,), "written": name, "worse": False}
        numbers = {"loss": 0.4 + behind, "loss_by_seed": (0.4 + behind,), "ratio": 0.5}
        contenders.append(ContenderResult(**own, **numbers, behind=behind, behind_error=error))  # type: ignore[arg-type]
        preset = Preset(name="sizes", depth=len(layout), channels=64, heads=4, feed_forward=256)
        (run / name / "0" / "model").mkdir(parents=True)
        write_text(run / name / "0" / "model" / "config.json", as_json(ModelConfig.new(preset, layout)))
    asked: dict[str, Any] = {"seeds": (0, 1), "steps": 10, "batch": 8, "samples": 64, "recordings": 64, "shift": 3.0}
    rest = {"data": "sha256:" + "d" * 64, "blind": 0.8, "errors_to_differ": 12.7, "s2search": "0.1.0"}
    RunComparison(**(asked | rest | changes), contenders=tuple(contenders)).save(run / "compare.json")
    return run


def trained(run: Path, **options: Any) -> Trained:
    return Trained(run=str(run), **options)


def test_what_was_measured_passes_the_conformance_suite(tmp_path: Path) -> None:
    varied = [dataclasses.replace(one, steps=steps) for one in (SMALL, FRAMES, PHONE) for steps in (1, 2, 3, 4)]
    for options in ({}, {"network": "random"}, {"stand_in": True}, {"model": "chunks"}):
        check_quality(trained(MEASURED / "distance", **options), varied)
    check_quality(trained(compared(tmp_path, {"a": (LAYOUT, 0.0, 0.0)})), varied)


def test_values_errors_and_sources_are_those_of_the_document() -> None:
    quality = trained(MEASURED)
    rows = {(row.name, row.steps): row for row in distances().rows if row.kind == "model"}
    for name, setting in {"chunks": SMALL, "frames": FRAMES}.items():
        for steps in (4, 2, 1):
            judged = quality.judge(dataclasses.replace(setting, steps=steps))
            far = rows[f"../steps/{name}-{steps}/model", steps].distances["trained"]
            assert judged is not None
            assert (judged.value, judged.error, judged.provenance) == (-far.mmd, far.mmd_error, "measured")
            assert f"{name}-{steps}/model, {steps} steps" in judged.source


def test_two_steps_are_equal_to_four_and_one_is_worse_by_the_network_that_was_trained() -> None:
    """Source: docs/few_steps.md, "One, two or four steps, chunks or frames"."""
    quality = trained(MEASURED)
    four, two, one = (quality.judge(dataclasses.replace(SMALL, steps=steps)) for steps in (4, 2, 1))
    assert [compare(four, two), compare(four, one), compare(two, one)] == ["equal", "better", "better"]


@pytest.mark.parametrize(
    "change",
    [
        {"depth": 7},
        {"channels": 128},
        {"video": "256x144"},
        {"steps": 3},
        {"chunk_frames": 1},
        {"window_chunks": 3},
        {"commit": "reuse_last"},
        {"layout": ("lcha",) * 6},
        {"layout": None},
    ],
)
def test_a_design_that_was_not_trained_is_not_known(change: dict[str, Any]) -> None:
    assert trained(MEASURED).judge(dataclasses.replace(SMALL, **change)) is None


@pytest.mark.parametrize("change", [{"precision": "w4a8"}, {"decoder": "small"}, {"preset": "mine"}])
def test_designs_that_differ_in_what_was_not_measured_are_not_compared(change: dict[str, Any]) -> None:
    quality = trained(MEASURED)
    assert compare(quality.judge(SMALL), quality.judge(dataclasses.replace(SMALL, **change))) == "incomparable"


def test_a_stand_in_orders_steps_of_designs_of_one_size_and_nothing_else() -> None:
    quality = trained(MEASURED, stand_in=True)
    assert trained(MEASURED).judge(PHONE) is None
    assert quality.layouts == ()
    judged, small = quality.judge(PHONE), quality.judge(SMALL)
    assert judged is not None
    assert small is not None
    assert judged.value == small.value
    assert "of stand-ins of 64 channels, lcha,ssa*2,lcha,ssa,lcha; designs alike in preset s2dit-1.8b" in judged.scale
    assert compare(judged, small) == "incomparable"
    other = dataclasses.replace(PHONE, steps=1, layout=("lcha",) * 28)
    assert compare(judged, quality.judge(other)) == "better"
    for change in ({"channels": 1024}, {"video": "256x144"}, {"precision": "w8a8"}, {"depth": 24}):
        assert compare(judged, quality.judge(dataclasses.replace(other, **change))) == "incomparable"


def test_stand_ins_of_other_layouts_are_not_compared_with_each_other(run: Path) -> None:
    path = run / "chunks-1" / "model" / "config.json"
    path.write_text(path.read_text().replace('"ssa"', '"full"', 1))
    quality = trained(run, stand_in=True)
    four, two, one = (quality.judge(dataclasses.replace(PHONE, steps=steps)) for steps in (4, 2, 1))
    assert [compare(four, two), compare(four, one)] == ["equal", "incomparable"]


def test_the_video_is_that_of_the_samples_and_held_alike_where_these_are_gone(run: Path) -> None:
    shutil.rmtree(run / "distance" / "samples")
    quality = trained(run)
    other = dataclasses.replace(SMALL, video="256x128")
    assert quality.judge(other) is not None
    assert compare(quality.judge(SMALL), quality.judge(other)) == "incomparable"


def test_a_measurement_is_found_by_folder_document_and_run(run: Path) -> None:
    digests = {
        trained(run).digest,
        trained(run / "distance").digest,
        trained(run / "distance" / "distance.json").digest,
        trained(MEASURED).digest,
    }
    assert len(digests) == 1
    (judged,) = {trained(run, metric="distance").judge(SMALL)}
    assert judged is not None


def test_the_digest_changes_with_any_figure_and_with_how_it_is_read(run: Path) -> None:
    before = trained(run).digest
    rows = distances(run).rows
    far = rows[-1].distances["trained"]
    changed = msgspec.structs.replace(far, mmd_error=far.mmd_error * 2)
    last = msgspec.structs.replace(rows[-1], distances=rows[-1].distances | {"trained": changed})
    rewrite(run, rows=(*rows[:-1], last))
    asked: list[dict[str, Any]] = [{}, {"stand_in": True}, {"network": "random"}]
    assert len({before, *(trained(run, **options).digest for options in asked)}) == 4


def test_two_models_of_one_design_are_refused_until_one_is_named(run: Path) -> None:
    shutil.copytree(run / "chunks-4", run / "again-4")
    rows = distances(run).rows
    again = next(row for row in rows if row.name.endswith("chunks-4/model"))
    rewrite(run, rows=(*rows, msgspec.structs.replace(again, name="../steps/again-4/model")))
    with pytest.raises(
        QualityError, match=r"chunks-4/model, 4 steps and .*again-4/model, 4 steps are one design; .*model="
    ):
        trained(run)
    assert trained(run, model="again").judge(SMALL) == dataclasses.replace(
        trained(MEASURED).judge(SMALL),  # type: ignore[type-var]
        source=f"{str(run / 'distance' / 'distance.json')!r}, ../steps/again-4/model, 4 steps",
    )


def reseeded(run: Path, values: dict[int, tuple[float, ...]]) -> None:
    """Write distances of models of some steps under seeds, chunk by chunk, each with the errors that it had."""
    rows = []
    for steps, of_seeds in values.items():
        like = next(row for row in distances(MEASURED).rows if row.name.endswith(f"chunks-{steps}/model"))
        for seed, mmd in enumerate(of_seeds):
            name = f"seed{seed}-{steps}"
            shutil.copytree(run / f"chunks-{steps}", run / name, dirs_exist_ok=True)
            far = msgspec.structs.replace(like.distances["trained"], mmd=mmd, mmd_error=0.1)
            rows.append(msgspec.structs.replace(like, name=f"../steps/{name}/model", distances={"trained": far}))
    rewrite(run, rows=tuple(rows))


def test_seeds_are_one_figure_whose_error_has_what_they_change_and_that_of_the_clips(run: Path) -> None:
    """Against a plain reading: pooled variance over designs, Student's quantile, errors of clips that do not shrink."""
    values = {4: (1.0, 1.4, 1.2), 2: (2.0, 2.2), 1: (3.0,)}
    reseeded(run, values)
    with pytest.raises(QualityError, match=r"are one design; .* or say that .* \(seeds=true\)"):
        trained(run)
    variance = (3 * np.var(values[4]) + 2 * np.var(values[2])) / 3
    for steps, of_seeds in values.items():
        judged = trained(run, seeds=True).judge(dataclasses.replace(SMALL, steps=steps))
        spread = np.sqrt(variance / len(of_seeds)) * stats.t.ppf(0.975, 3) / 1.96
        assert judged is not None
        assert judged.value == pytest.approx(-np.mean(of_seeds))
        assert judged.error == pytest.approx(np.hypot(spread, 0.1), rel=1e-3)
        assert judged.source.count(f"-{steps}/model, {steps} steps") == len(of_seeds)


def test_seeds_ask_for_two_models_of_a_design_and_for_one_kind_of_stand_in(run: Path) -> None:
    with pytest.raises(QualityError, match="no design has two models; measure further seeds"):
        trained(MEASURED, seeds=True)
    reseeded(run, {4: (1.0, 1.4)})
    path = run / "seed1-4" / "model" / "config.json"
    path.write_text(path.read_text().replace('"ssa"', '"full"', 1))
    with pytest.raises(QualityError, match=r"seed0-4.* and .*seed1-4.* are one design; .*\(model=...\)$"):
        trained(run, seeds=True, stand_in=True)


def test_the_quantiles_are_student_s() -> None:
    assert pytest.approx(stats.t.ppf(0.975, range(1, len(T_975) + 1)), abs=5e-4) == T_975


def test_what_self_forcing_begins_with_in_a_run_is_no_design(tmp_path: Path) -> None:
    """A run has two models of its few steps: one that consistency left, and what self-forcing made of it."""
    rows = distances().rows
    again = next(row for row in rows if row.name.endswith("chunks-4/model"))
    named = {stage: msgspec.structs.replace(again, name=f"{stage}/model") for stage in ("consistency", "self_forcing")}
    for name in named:
        shutil.copytree(MEASURED / "chunks-4", tmp_path / name)
    (tmp_path / "distance").mkdir()
    dataclasses.replace(distances(), rows=tuple(named.values())).save(tmp_path / "distance" / "distance.json")
    with pytest.raises(QualityError, match="are one design"):
        trained(tmp_path)
    (tmp_path / "stages.json").write_text("{}")
    judged = trained(tmp_path).judge(SMALL)
    assert judged is not None
    assert "self_forcing/model" in judged.source


def test_models_of_whole_clips_are_no_designs(run: Path) -> None:
    for folder in run.glob("*/model"):
        path = folder / "config.json"
        config = msgspec.json.decode(path.read_bytes(), type=ModelConfig)
        write_text(path, as_json(dataclasses.replace(config, causal=None)))
    with pytest.raises(QualityError, match="has no model that a design could be"):
        trained(run)


def test_a_model_that_commits_otherwise_than_it_was_measured_is_refused(run: Path) -> None:
    path = run / "chunks-4" / "model" / "config.json"
    config = msgspec.json.decode(path.read_bytes(), type=ModelConfig)
    own = CausalForm(commit="reuse_last", level=0.625, schedule=(1.0, 0.625))
    write_text(path, as_json(dataclasses.replace(config, causal=own)))
    with pytest.raises(QualityError, match=r"chunks-4/model' commits by reuse_last, .* clean_pass; measure it again"):
        trained(run)


def test_models_that_moved_are_named_by_a_folder(run: Path) -> None:
    moved = run.with_name("elsewhere")
    (run / "chunks-4").rename(moved)
    with pytest.raises(QualityError, match=r"no folder is the '../steps/chunks-4/model' of .*models=FOLDER"):
        trained(run)
    shutil.copytree(MEASURED, moved.with_name("other") / "steps")
    assert trained(run, models=str(moved.with_name("other") / "steps")).digest == trained(MEASURED).digest


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "nowhere"])
def test_a_model_s_name_that_no_folder_can_have_is_one_line(run: Path, name: str) -> None:
    rows = distances(run).rows
    rewrite(run, rows=(*rows[:-1], msgspec.structs.replace(rows[-1], name=name)))
    with pytest.raises(QualityError, match="no folder is the"):
        trained(run)


def test_losses_order_layouts_and_are_equal_where_the_comparison_calls_none_worse(tmp_path: Path) -> None:
    other, third = ("lcha",) * 6, ("ssa",) * 6
    run = compared(tmp_path, {"best": (LAYOUT, 0.0, 0.0), "near": (other, 0.12, 0.01), "far": (third, 0.13, 0.01)})
    quality = trained(run)
    assert quality.layouts == (LAYOUT, other, third)
    best, near, far = (quality.judge(dataclasses.replace(SMALL, layout=layout)) for layout in quality.layouts)
    assert [compare(best, near), compare(best, far)] == ["equal", "better"]  # 12.7 errors: .127
    assert near is not None
    assert near.value == -0.12
    for change in ({"steps": 2}, {"chunk_frames": 1}, {"video": "256x144"}, {"commit": "reuse_last"}):
        assert compare(best, quality.judge(dataclasses.replace(SMALL, **change))) == "incomparable"


def test_a_contender_that_is_another_one_s_runs_counts_once_and_a_search_that_found_several_not_at_all(
    tmp_path: Path,
) -> None:
    run = compared(tmp_path, {"best": (LAYOUT, 0.0, 0.0)})
    found = msgspec.json.decode((run / "compare.json").read_bytes(), type=RunComparison)
    same = msgspec.structs.replace(found.best, name="again")
    several = msgspec.structs.replace(found.best, name="gumbel", trained_as="gumbel", layouts=(LAYOUT, ("lcha",) * 6))
    dataclasses.replace(found, contenders=(found.best, same, several)).save(run / "compare.json")
    assert trained(run).layouts == (LAYOUT,)


def test_documents_that_are_none_are_refused_in_one_line(run: Path) -> None:
    path = run / "distance" / "distance.json"
    whole = path.read_text()
    for text in ("", "[]", "{", "\xff", whole.replace("distance/1", "distance/9"), whole.replace('"mmd"', '"mdm"')):
        path.write_text(text)
        with pytest.raises(QualityError, match="is not a measurement of distances") as refused:
            trained(run)
        assert len(str(refused.value).splitlines()) == 1
    path.write_text(whole.replace('"mmd_error": ', '"mmd_error": -'))
    with pytest.raises(QualityError, match="errors from 0"):
        trained(run)
    path.write_text(whole)
    (run / "chunks-4" / "model" / "config.json").write_text("{}")
    with pytest.raises(QualityError, match="is not a config of a model"):
        trained(run)


def test_options_that_there_are_not_are_told_what_there_is(tmp_path: Path) -> None:
    for text, complaint in {
        "trained": r"quality 'trained' needs the option 'run'",
        f"trained[run={tmp_path}]": "has no distance.json nor compare.json",
        f"trained[run={MEASURED},metric=loss]": "has no compare.json",
        f"trained[run={MEASURED},metric=taste]": "allowed: distance, loss",
        f"trained[run={MEASURED},network=inception]": r"no network 'inception'; it has: random, trained",
        f"trained[run={MEASURED},model=nobody]": "has no model that a design could be",
    }.items():
        with pytest.raises(InputError, match=complaint):
            open_quality(text)
    assert open_quality(f"trained[run={MEASURED}]").label == f"trained[run={MEASURED}]"


def test_the_vendored_measurement_is_what_its_writer_writes() -> None:
    path = MEASURED / "distance" / "distance.json"
    assert distances().to_json() == path.read_text()
    journals = MEASURED.glob("distance/samples/*/generated.jsonl")
    headings = [msgspec.json.decode(journal.read_bytes(), type=GeneratedHeading) for journal in journals]
    asked = {(row.weights, row.steps) for row in distances().rows if row.kind == "model"}
    assert {(one.weights, one.steps) for one in headings} == asked
