"""What readers make of the files that others publish: real ones, where they may be redistributed."""

from __future__ import annotations

import collections
import dataclasses
import json
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from s2search import registry
from s2search.errors import InputError, TableError
from s2search.lint.linter import lint
from s2search.readers.base import Reader, Reading
from s2search.readers.ofa import OFA
from s2search.tables.foreign import BY_ROW, NOT_STATED, ImportedRow, ImportedTable
from s2search.testing.readers import check_reader
from tests.readers.samples import COMPUTATION, DATA, SAMPLES, sample, short


def table(name: str, content: bytes | None = None, **told: str) -> ImportedTable:
    reader: Reader = dataclasses.replace(registry.create("readers", name), **told)
    return reader.table(sample(name) if content is None else content, file="file.txt")


def row(found: ImportedTable, part: str, **about: str) -> ImportedRow:
    """Return the one row of a part of which all this is said."""
    (one,) = [
        row
        for row in found.rows
        if row.part == part and about.items() <= dict(zip(found.card.columns, row.about, strict=True)).items()
    ]
    return one


def refusal(name: str, content: bytes, **told: str) -> str:
    with pytest.raises(TableError) as caught:
        table(name, content, **told)
    return str(caught.value)


def test_every_installed_reader_has_a_sample() -> None:
    assert set(registry.installed("readers")) == set(SAMPLES)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_reader_keeps_its_contract(name: str) -> None:
    check_reader(registry.create("readers", name), short(name))


class Deaf(OFA):
    """Does not keep what it is told."""

    def _table(self, reading: Reading, content: bytes, file: str) -> ImportedTable:
        return (
            dataclasses.replace(self, device="")._table(reading, content, file)
            if self.device
            else super()._table(reading, content, file)
        )


class Fragile(OFA):
    """Raises what is no S2SearchError."""

    def parse(self, content: bytes) -> Reading:
        content.decode("ascii")
        return super().parse(content)


class Mending(OFA):
    """Reads rows that are not in the file."""

    read_before: ClassVar[list[int]] = []

    def parse(self, content: bytes) -> Reading:
        reading = super().parse(content)
        self.read_before.append(1)
        return dataclasses.replace(reading, rows=reading.rows[: len(self.read_before)])


@pytest.mark.parametrize(
    ("broken", "error"), [(Deaf, AssertionError), (Fragile, ValueError), (Mending, AssertionError)]
)
def test_the_contract_finds_a_reader_that_breaks_it(broken: type[OFA], error: type[Exception]) -> None:
    with pytest.raises(error):
        check_reader(broken(), sample("ofa"))


def test_ofa_states_a_deviation_and_proxylessnas_a_variance() -> None:
    block = "expanded_conv"
    ofa = row(table("ofa"), block, stride="2")
    assert (ofa.latency_ms, ofa.latency_std_ms, ofa.samples) == (4.75, 0.125, 50)
    assert (ofa.note, ofa.memory_bytes) == ("", None)
    proxyless = row(table("proxylessnas"), block, stride="2", input="112x112x16", expand="6", idskip="0")
    assert proxyless.latency_std_ms == pytest.approx(0.3)
    assert row(table("ofa"), "Logits").latency_std_ms is None


def test_a_variance_is_not_taken_for_a_deviation() -> None:
    assert "read the file as proxylessnas" in refusal("ofa", sample("proxylessnas"))
    assert "read the file as ofa" in refusal("proxylessnas", sample("ofa"))
    assert "a var is -1.0; a variance, 0 or more" in refusal("proxylessnas", b"Conv-input:1x1x1: {mean: 1, var: -1}")


def test_hat_gives_encoder_and_decoder_of_each_layout_in_order() -> None:
    found = table("hat")
    first = sample("hat").decode().splitlines()[1].split(",")
    assert len(found.rows) == 4000
    for part, mean, std in (("encoder", -4, -2), ("decoder", -3, -1)):
        one = row(found, part, layout="0")
        assert (one.latency_ms, one.latency_std_ms) == (float(first[mean]), float(first[std]))
    assert [one.about[0] for one in found.rows[::2]] == [str(n) for n in range(2000)]
    assert found.card.columns.keys() >= {"encoder_layer_num", "decoder_arbitrary_ende_attn_avg"}


def test_aihub_gives_latency_and_memory_per_phone_and_runtime_with_versions() -> None:
    found = table("aihub")
    assert len(found.rows) == 63
    unet = row(found, "unet", device="Samsung Galaxy S24", runtime="qnn_context_binary")
    text = sample("aihub").decode()
    at = text.index("Samsung Galaxy S24:", text.index("performance_metrics:", text.index("      unet:")))
    entry = text[at : at + 600]
    milliseconds = float(entry.split("inference_time_milliseconds: ")[1].split("\n")[0])
    least, most = (int(entry.split(f"{end}: ")[1].split("\n")[0]) for end in ("min", "max"))
    assert unet.latency_ms == milliseconds
    assert (unet.memory_least_bytes, unet.memory_bytes) == (least * 2**20, most * 2**20)
    place = found.place(unet)
    assert place == {
        "device": "Samsung Galaxy S24",
        "runtime": "qnn_context_binary",
        "precision": "w8a16",
        "compute_unit": "NPU",
    }
    assert "qairt 2.43.0.260127150333_193827" in dict(zip(found.card.columns, unet.about, strict=True))["tool_versions"]
    assert found.card.device == BY_ROW


def test_naming_a_phone_keeps_its_rows_only() -> None:
    found = table("aihub", device="Samsung Galaxy S24", runtime="precompiled_qnn_onnx")
    assert {(found.place(one)["device"], found.place(one)["runtime"]) for one in found.rows} == {
        ("Samsung Galaxy S24", "precompiled_qnn_onnx")
    }
    message = refusal("aihub", sample("aihub"), device="Galaxy S24")
    assert "no row has the device 'Galaxy S24'; it has: " in message
    assert "Samsung Galaxy S24 " not in message.split("it has: ")[0]


def test_aihub_says_how_many_entries_have_no_latency() -> None:
    text = short("aihub").decode()
    start = text.index("inference_time_milliseconds")
    line = text[start : text.index("\n", start)]
    without = text.replace(line, "llm_metrics: []", 1)
    assert (
        "1 entries have no row: tokens per second in place of a latency"
        in table("aihub", without.encode()).card.assumptions
    )
    failed = text.replace(line, "x: 1", 1).replace("job_status: Passed", "job_status: Failed", 1)
    assert "1 entries have no row: the job is Failed" in table("aihub", failed.encode()).card.assumptions
    liar = text.replace("job_status: Passed", "job_status: Failed", 1)
    assert "is 'Failed', and has a latency" in refusal("aihub", liar.encode())


def test_the_linter_finds_the_device_whose_numbers_aihub_copied_from_another(tmp_path: Path) -> None:
    """AI Hub fills gaps with a similar device's results (perf_yaml.py, apply_similar_devices)."""
    table("aihub").save(tmp_path / "hub")
    (finding,) = lint(tmp_path / "hub")
    assert finding.rule == "duplicated_device"
    assert "'SA7255P ADP' are those of 'QCS8275 (Proxy)'" in finding.message


def test_galvatron_gives_layers_for_the_whole_batch() -> None:
    found = table("galvatron", COMPUTATION.read_bytes())
    document = json.loads(COMPUTATION.read_text())
    for batch in range(1, 13):
        two, four = (document[f"layernum[{layers}]_bsz{batch}_seq2048"] for layers in (2, 4))
        layer = row(found, "layer of type 0", batch=str(batch))
        assert layer.latency_ms == pytest.approx((four - two) / 2)
        assert layer.note == "per sample in the file, times the batch"
        outside = row(found, "outside the layers", batch=str(batch)).latency_ms
        assert outside == pytest.approx(two - 2 * layer.latency_ms)


def test_galvatron_derives_a_layer_where_the_file_has_only_the_models() -> None:
    document = {key: ms for key, ms in json.loads(COMPUTATION.read_text()).items() if key.startswith("layernum")}
    derived = row(table("galvatron", json.dumps(document).encode()), "layer of type 0", batch="3")
    assert derived.note == "derived from two models"
    whole = row(table("galvatron", COMPUTATION.read_bytes()), "layer of type 0", batch="3")
    assert derived.latency_ms == pytest.approx(whole.latency_ms)


def test_galvatron_refuses_a_layer_that_the_models_contradict_and_a_plan() -> None:
    document = json.loads(COMPUTATION.read_text())
    document["layertype_0_bsz3_seq2048"] *= 1.001
    message = refusal("galvatron", json.dumps(document).encode())
    assert "layertype_0_bsz3_seq2048 is 4.16889 ms per sample, and the models of the same file make 4.16472" in message
    (plan,) = (DATA / "galvatron").glob("galvatron_config*")
    assert "it is a plan of Galvatron" in refusal("galvatron", plan.read_bytes())


def test_galvatron_gives_memory_per_strategy_and_derives_what_adds_up() -> None:
    found = table("galvatron")
    where = {"strategy": "1_2_4_sp", "tp": "2", "dp": "4", "rank": "7"}
    mib = 2**20
    peak = row(found, "activation_peak", layers="2", **where)
    assert peak.memory_bytes == round(1839.181640625 * mib)
    states = row(found, "model_states of a layer", **where)
    assert states.memory_bytes == round((1356.41943359375 - 968.3642578125) * mib)
    assert states.note == "derived from two models"
    assert all(one.latency_ms is None for one in found.rows)
    assert not [one for one in found.rows if one.part == "activation_peak of a layer"]
    staged = json.loads(sample("galvatron"))["1_2_4_sp"]
    stages = table("galvatron", json.dumps({"2_2_2_sp": staged}).encode())
    assert not [one for one in stages.rows if one.part.endswith("of a layer")]


def test_puzzletron_gives_every_subblock_of_every_scenario() -> None:
    found = table("puzzletron")
    assert collections.Counter(one.part for one in found.rows) == {
        "non_block": 3,
        "AttentionConfig": 27,
        "FFNConfig": 18,
    }
    one = row(found, "FFNConfig", scenario="1", layer="2", subblock='{"intermediate_size": 512, "no_op": false}')
    assert (one.latency_ms, one.memory_bytes) == (3.375, 48 * 2**20)
    place = found.place(one)
    assert (place["device"], place["precision"], place["runtime"]) == ("NVIDIA H100", "torch.bfloat16", NOT_STATED)
    assert row(found, "non_block", scenario="2").latency_ms is None


def test_a_device_that_the_file_leaves_open_may_be_told() -> None:
    open_ = sample("puzzletron").replace(b'"gpu": "NVIDIA H100"', b'"gpu": null')
    assert table("puzzletron", open_).card.device == NOT_STATED
    card = table("puzzletron", open_, device="NVIDIA H100").card
    assert (card.device, card.told) == ("NVIDIA H100", ["device"])
    assert "no row has the device 'A100'; it has: NVIDIA H100" in refusal(
        "puzzletron", sample("puzzletron"), device="A100"
    )


def test_tfnas_keeps_its_negative_rows_and_the_linter_finds_exactly_those(tmp_path: Path) -> None:
    for name, negative in (("cpu", 84), ("gpu", 88)):
        raw = DATA / f"tfnas/latency_{name}.csv"
        found = registry.create("readers", "tfnas").read(raw)
        found.save(tmp_path / name)
        findings = lint(tmp_path / name)
        assert [finding.rule for finding in findings] == ["negative_latency"] * negative
        assert [finding.row for finding in findings] == [finding.row for finding in lint(raw)]
        assert len(found.rows) == len(raw.read_text().splitlines()) - 1
    base = row(table("tfnas"), "base")
    assert base.latency_ms == 9.356469964981079


@pytest.mark.parametrize("name", ["galvatron", "ofa", "proxylessnas", "puzzletron"])
def test_what_is_published_reads_without_a_finding(name: str, tmp_path: Path) -> None:
    table(name).save(tmp_path / name)
    assert lint(tmp_path / name) == []


def test_the_linter_finds_that_hats_raspberry_pi_drifted(tmp_path: Path) -> None:
    """Its first hundred encoders take ten times as long as later ones of the same features."""
    found = table("hat")
    found.save(tmp_path / "pi")
    findings = lint(tmp_path / "pi")
    assert [(finding.row, finding.rule) for finding in findings] == [(None, "spread_hides_drift")] * 2
    assert "of the encoder has a lag-1 autocorrelation of 0.73" in findings[0].message
    shuffled = np.random.default_rng(0).permutation(2000)
    mixed = [
        dataclasses.replace(row, about=(str(shuffled[position // 2]), *row.about[1:]))
        for position, row in enumerate(found.rows)
    ]
    dataclasses.replace(found, rows=tuple(mixed)).save(tmp_path / "mixed")
    assert lint(tmp_path / "mixed") == []


def test_what_the_importer_tells_is_said_to_be_told() -> None:
    card = table("hat", device="Raspberry Pi 4", date="2020-05", origin="github.com/x @70e5a279").card
    assert (card.device, card.date, card.runtime, card.told) == (
        "Raspberry Pi 4",
        "2020-05",
        NOT_STATED,
        ["device", "date"],
    )
    assert card.provenance.source == card.sources[0].origin == "github.com/x @70e5a279"
    with pytest.raises(InputError, match="the date is 'May'; 2026, 2026-01 or 2026-01-31"):
        table("hat", date="May")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ofa", b"a: &x {mean: 1}\nb: *x", "line 1 has an alias or an anchor"),
        ("ofa", b"Conv: {mean: 1}\nConv: {mean: 2}", "line 2 has the key 'Conv' a second time"),
        (
            "ofa",
            b"Conv: !!python/object/apply:os.system [id]",
            "the tag 'tag:yaml.org,2002:python/object/apply:os.system'",
        ),
        ("ofa", b"Conv: {mean: .nan}", "the mean of 'Conv' is '.nan'; a finite number"),
        ("ofa", b"Conv: {mean: 1_000}", "is '1_000'; a finite number"),
        ("ofa", b"Conv: {mean: '1'}", "is '1'; a finite number"),
        ("ofa", b"Conv: {mean: 1e999}", "is '1e999'; a finite number"),
        ("ofa", b"Conv: {mean: 1, count: -1}", "the count of 'Conv' is '-1'; a whole number from 0"),
        ("ofa", b"Conv: {mean: 1, std: -1}", "latency_std_ms of Conv is -1.0"),
        ("ofa", b"Conv: {mean: 2e9}", "latency_ms of Conv is 2000000000.0; milliseconds from -1e+09 to 1e+09"),
        ("ofa", b"Conv: {count: 1}", "the entry 'Conv' has no mean"),
        ("ofa", b"Conv-kernel: {mean: 1}", "cannot be read at 'kernel'"),
        ("ofa", b"Conv-k:1-k:2: {mean: 1}", "cannot be read at 'k:2'"),
        ("ofa", b"[" * 2000, "more than 32 levels"),
        ("ofa", b"a: 1\n--- \nb: 1", "a second document"),
        ("ofa", b"\xff", "byte 0 is not UTF-8 text"),
        ("ofa", b"", "it is empty; give a file that is not"),
        ("ofa", b"{}", "has no rows"),
        ("hat", b"a,a\n1,2", "the column 'a' twice"),
        ("hat", b"a,b\n1", "line 2 has 1 cells, the first line 2"),
        ("tfnas", b"op,width,ms\n", "its first line is 'op,width,ms'; op,width,latency_ms"),
        ("tfnas", b"op,width,latency_ms\nrm_rf,1,2.0", "line 2 has the operation 'rm_rf'"),
        ("galvatron", b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ("galvatron", b'{"layernum[2]_bsz1_seq8": NaN}', "it holds NaN; finite numbers"),
        ("galvatron", b'{"a":' * 5000, "it is nested too deeply"),
        ("galvatron", b'{"layernum[2]_bsz1_seq8": "5"}', "is '5'; a finite number"),
        ("puzzletron", b'[{"args": {}, "subblocks": [{}]}]', "subblock_config of subblock 0 of scenario 0 is None"),
        ("puzzletron", b'[{"args": {"part": 1}, "subblocks": []}]', "args of scenario 0 have 'part'"),
        (
            "puzzletron",
            b'[{"args": {"x": "a\\u0000"}, "non_block": {"memory_mib": 1}, "subblocks": []}]',
            "cannot be printed",
        ),
        ("aihub", b"models: []", "it has no inference time"),
        ("aihub", b"others: []", "it has neither 'precisions' nor 'models'"),
    ],
)
def test_what_could_lie_or_harm_is_refused_with_its_place_and_value(name: str, content: bytes, message: str) -> None:
    line = refusal(name, content)
    assert line.startswith(f"'file.txt' cannot be read as {name}: ") or "has no rows" in line
    assert message in line


def test_a_version_stays_the_text_that_it_is() -> None:
    text = short("aihub").decode().replace("qairt: 2.43.0.260127150333_193827", "qairt: 2.10")
    found = table("aihub", text.encode())
    assert any("qairt 2.10" in cell for one in found.rows for cell in one.about)


def test_a_file_that_is_none_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = registry.create("readers", "ofa")
    for path in (tmp_path, tmp_path / "none.yaml", Path("/dev/zero"), Path("\x00")):
        with pytest.raises(TableError):
            reader.read(path)
    monkeypatch.setattr("s2search.readers.base.MOST_BYTES", 100)
    (tmp_path / "large.yaml").write_bytes(b"a" * 101)
    with pytest.raises(TableError, match="is larger than"):
        reader.read(tmp_path / "large.yaml")


WIDE = [f"c{n}" for n in range(200_000)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("hat", ",".join([*WIDE, "c1"]).encode()),
        ("galvatron", json.dumps(dict.fromkeys(WIDE, 1)).encode()[:-1] + b', "c199999": 2}'),
        ("ofa", b"".join(b"k%d: {mean: 1}\n" % n for n in range(300_000))),
        ("ofa", b"a:\n" + b"- 1\n" * 150_000),
        ("ofa", b"".join(b"a-k%d:1: {mean: 1}\n" % n for n in range(30_000))),
        ("puzzletron", json.dumps([{"args": {f"a{n}": 1}, "subblocks": []} for n in range(30_000)]).encode()),
        ("tfnas", b"op,width,latency_ms\n" + b",base,1\n" * 100_000),
    ],
    ids=["wide CSV", "wide JSON", "long YAML", "long YAML list", "many facts", "many args", "long CSV"],
)
def test_a_large_file_is_refused_soon(name: str, content: bytes) -> None:
    start = time.process_time()
    refusal(name, content)
    assert time.process_time() - start < 10


def test_two_hundred_things_may_be_said_of_a_part_and_no_more() -> None:
    for things in (200, 201):
        content = "".join(f"a-k{n}:1: {{mean: 1}}\n" for n in range(things)).encode()
        if things == 200:
            assert len(table("ofa", content).card.columns) == 200
        else:
            assert "it states 201 different facts; at most 200" in refusal("ofa", content)


def test_a_file_with_very_many_columns_is_linted_soon(tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text(",".join([*WIDE, "c1", "latency_ms"]) + "\n1\n")
    start = time.process_time()
    with pytest.raises(TableError, match="has two columns 'c1'"):
        lint(tmp_path / "wide.csv")
    assert time.process_time() - start < 5


def test_aihub_up_to_0_27_is_in_microseconds_and_bytes() -> None:
    content = (DATA / "look_alikes/aihub_0.27.perf.yaml").read_bytes()
    found = table("aihub", content)
    (only,) = found.rows
    assert (only.part, only.latency_ms, only.memory_least_bytes, only.memory_bytes) == (
        "Encoder", 0.915, 12288, 78_000_000,
    )  # fmt: skip
    about = found.about(only)
    assert found.place(only)["runtime"] == "torchscript_onnx_tflite"
    assert (about["layers"], about["layers_npu"], about["layers_cpu"]) == ("72", "70", "2")
    assert found.place(only)["precision"] == "fp16"
    assert any("taken as microseconds" in line for line in found.card.assumptions)
    assert "1 entries have no row: the job is Failed" in found.card.assumptions


@pytest.mark.parametrize(
    ("profile", "latencies"),
    [
        (
            {"layernum[2]_bsz8": 100, "layernum[4]_bsz8": 180, "layertype_0_bsz8": 5, "layertype_other_0_bsz8": 2.5},
            {("layer of type 0", ""): 40.0, ("outside the layers", ""): 20.0},
        ),
        (
            {"layernum[1]_bsz1_seq128": 5.0, "layernum[2]_bsz1_seq128": 7.0, "layertype_other_0_bsz1_seq128": 3.0},
            {("layer of type 0", "128"): 2.0, ("outside the layers", "128"): 3.0},
        ),
        (
            {
                "layernum[2,2]_bsz1_seq[512,128]": 11.0, "layernum[4,2]_bsz1_seq[512,128]": 14.0,
                "layernum[2,4]_bsz1_seq[512,128]": 17.0, "layertype_1_bsz1_seq128": 3.0,
                "layertype_other_bsz1_seq[512,128]": 2.0,
            },
            {("layer of type 0", "512"): 1.5, ("layer of type 1", "128"): 3.0, ("outside the layers", "512,128"): 2.0},
        ),
    ],
    ids=["no-length", "other-0", "two-kinds"],
)  # fmt: skip
def test_galvatrons_other_forms_are_read(profile: dict[str, float], latencies: dict[tuple[str, str], float]) -> None:
    found = table("galvatron", json.dumps(profile).encode())
    told = {(one.part, found.about(one)["seq_len"]): one.latency_ms for one in found.rows if one.part != "model"}
    assert told == pytest.approx(latencies)


def test_galvatron_refuses_a_second_kind_that_its_models_contradict() -> None:
    profile = {"layernum[2,2]_bsz1_seq[8,8]": 11.0, "layernum[2,4]_bsz1_seq[8,8]": 17.0, "layertype_1_bsz1_seq8": 4.0}
    assert "layertype_1_bsz1_seq8 is 4 ms per sample" in refusal("galvatron", json.dumps(profile).encode())


def test_galvatrons_memory_of_two_kinds_is_told_apart() -> None:
    sizes = {
        "layernum[1,1]_bsz8_rank0_ms": 10.0, "layernum[2,1]_bsz8_rank0_ms": 12.0, "layernum[1,2]_bsz8_rank0_ms": 15.0,
    }  # fmt: skip
    found = table("galvatron", json.dumps({"1_1_8": sizes, "layertype_0": {"parameter_size": 3.0}}).encode())
    derived = {one.part: one.memory_bytes for one in found.rows if "of a layer" in one.part or "size" in one.part}
    assert derived == {
        "model_states of a layer of type 0": 2 << 20, "model_states of a layer of type 1": 5 << 20,
        "parameter_size": 3 << 20,
    }  # fmt: skip


def test_puzzletron_writes_no_layer_as_minus_one() -> None:
    document = json.loads(sample("puzzletron"))
    document[0]["subblocks"][0]["parent_layer_index"] = -1
    found = table("puzzletron", json.dumps(document).encode())
    first = next(one for one in found.rows if one.part != "non_block")
    assert found.about(first)["layer"] == ""
    document[0]["subblocks"][0]["parent_layer_index"] = -2
    assert "parent_layer_index of subblock 0" in refusal("puzzletron", json.dumps(document).encode())


def test_counts_may_be_written_as_data_frames_write_them() -> None:
    document = json.loads(sample("puzzletron"))
    document[0]["subblocks"][0]["num_params"] = 1000.0
    found = table("puzzletron", json.dumps(document).encode())
    assert next(found.about(one)["num_params"] for one in found.rows if one.part != "non_block") == "1000"
