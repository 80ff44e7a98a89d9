"""A kit of a few chosen blocks: what is timed, what is foretold, and the whole path to a plan."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from msgspec import UNSET

from s2search.cli.kit import kit_build
from s2search.errors import InputError, MissingRowError, UnknownNameError
from s2search.kit import build as building
from s2search.kit.build import build
from s2search.kit.campaign import Built
from s2search.kit.ingest import ingest
from s2search.kit.manifest import KitPackage, KitProtocol, read_manifest
from s2search.kit.shots import choose_items
from s2search.latency.lookup import Lookup
from s2search.latency.transfer import Transfer
from s2search.measurement.items import campaign_items
from s2search.preset import Preset
from s2search.space import parse_blocks
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable, open_table
from tests.kit.test_ingest import write_results

H100, IPHONE = open_table("h100"), open_table("iphone-16-pro-max")
BLOCKS = "lcha,ssa,full,kv_compressed"
THREE = "lcha,ssa,kv_compressed"
VARIANTS = "lcha[gate=false],lcha[feature_map=relu],lcha[local_only=true],lcha[linear_only=true]"


def items(candidates=BLOCKS, videos=("512x288",)):
    blocks = parse_blocks(candidates)
    found = [
        campaign_items(
            Preset.named("s2dit-1.8b"),
            size,
            scenarios=["stream"],
            candidates=blocks,
            roles=("block", "switch", "fixed"),
        )
        for size in videos
    ]
    return [item for of_size in found for item in of_size]


@pytest.fixture
def made(monkeypatch):
    """Items that were converted; packages are files in place of Core ML's, which take minutes at this size."""
    keys = []

    def convert(out, item, precisions, form):
        keys.append(item.key)
        for precision in precisions:
            digest = f"sha256:{item.key} {precision}"
            package = KitPackage(
                digest=digest,
                path=f"packages/{item.key.replace(' ', '_')}.{precision}.mlpackage",
                weight_bytes=1000,
                operations={"linear": 2},
                inputs=[],
                outputs=["y"],
                parity_db=130.0,
            )
            (out / package.path).mkdir(parents=True)
            yield precision, Built(made_of={}, package=package, state_bytes=10, peak_bytes=10)

    monkeypatch.setattr(building, "_convert", convert)
    return keys


def build_chosen(out, campaign, shots, known, **options):
    choice = choose_items(campaign, shots, known)
    protocol = KitProtocol(rounds=8)
    return build(out, choice.timed, preset="s2dit-1.8b", choice=choice, protocol=protocol, **options)


def test_only_chosen_blocks_are_converted_and_the_manifest_says_which(tmp_path, made):
    campaign = items()
    manifest = build_chosen(tmp_path / "kit", campaign, 2, [H100], precisions=("float16", "w4a16"))
    blocks = [row for row in manifest.rows if row.role == "block"]
    assert len(made) == 2 + 4
    assert [row.part for row in manifest.rows if row.role != "block"] == ["down", "up", "stem", "head"] * 2
    assert manifest.shots.shots == 2
    assert manifest.shots.chosen == [row.id for row in blocks]
    assert manifest.sentinel in manifest.shots.chosen
    assert [(table.name, table.digest) for table in manifest.shots.known] == [(H100.name, H100.digest)]
    timed = {f"stream {row.part} {row.shape.grid}" for row in blocks}
    assert timed | set(manifest.shots.foretold) == {item.key for item in campaign if item.role == "block"}
    assert len(manifest.shots.foretold) == 2
    assert read_manifest(tmp_path / "kit")[0] == manifest
    assert f"transfer[known={H100.name}]" in (tmp_path / "kit/README.md").read_text()


@pytest.mark.parametrize("candidates", [BLOCKS, "kv_compressed,full,ssa,lcha"])
def test_blocks_that_plans_need_are_timed_before_others(candidates):
    def timed(shots, needed):
        choice = choose_items(items(candidates), shots, [H100], needed)
        return {item.part.label for item in choice.timed if item.role == "block"}

    assert timed(2, ["lcha", "ssa"]) == {"lcha", "ssa"}
    assert timed(1, ["lcha", "ssa"]) < {"lcha", "ssa"}
    assert {"lcha", "ssa"} < timed(3, ["lcha", "ssa"])
    assert timed(2, ["full", "kv_compressed", "lcha", "ssa"]) == timed(2, [])
    assert timed(1, ["full"]) == {"full"}
    assert len(timed(4, ["full"])) == 4


def test_a_kit_of_two_shots_times_the_blocks_of_default_plans(monkeypatch, tmp_path):
    from s2search.api import kit

    monkeypatch.setattr("s2search.kit.build.build", lambda out, timed, *, choice, **_: choice)
    choice = kit.kit_build(tmp_path / "kit", shots=2, known=["h100"])
    assert {item.part.label for item in choice.timed if item.role == "block"} == {"lcha", "ssa"}
    named = kit.kit_build(tmp_path / "kit", shots=2, known=["h100"], candidates=BLOCKS)
    assert named.timed == choose_items(items(), 2, [H100]).timed


def test_rows_that_would_settle_a_design_are_what_a_kit_times(monkeypatch, tmp_path):
    from s2search.api import kit

    monkeypatch.setattr("s2search.kit.build.build", lambda out, timed, *, choice, **_: (timed, choice))
    keys = ["stream kv_compressed 3x18x32", "stream full 3x18x32"]
    timed, choice = kit.kit_build(tmp_path / "kit", only=keys)
    assert (choice, [item.key for item in timed]) == (None, keys)
    timed, choice = kit.kit_build(tmp_path / "kit", only=keys, shots=2, known=["h100"], candidates=BLOCKS)
    assert {item.key for item in timed if item.role == "block"} == set(keys)
    assert choice.shots == 2
    with pytest.raises(UnknownNameError, match="no row of this campaign is called 'stream full 3x9x16'"):
        kit.kit_build(tmp_path / "kit", only="stream full 3x9x16")


def test_every_size_gets_its_own_blocks(tmp_path, made):
    choice = choose_items(items(videos=("512x288", "832x480")), 2, [H100])
    by_shape = {item.shape.grid: 0 for item in choice.timed}
    for item in choice.timed:
        by_shape[item.shape.grid] += item.role == "block"
    assert by_shape == {"3x18x32": 2, "3x30x52": 2}
    assert len(choice.foretold) == 4


@pytest.mark.parametrize("candidates", [BLOCKS, "kv_compressed,full,ssa,lcha"])
@pytest.mark.parametrize("odd", ["full", "ssa"])
def test_the_block_on_which_known_devices_disagree_is_timed(candidates, odd):
    rows = tuple(
        dataclasses.replace(
            row, latency_ms=4 * row.latency_ms, **dict.fromkeys(("latency_p10_ms", "latency_p90_ms"), None)
        )
        if row.part == odd
        else row
        for row in H100.rows
    )
    other = LatencyTable(name="other", card=H100.card, rows=rows)
    choice = choose_items(items(candidates), 1, [H100, other])
    assert [item.part.label for item in choice.timed if item.role == "block"] == [odd]


def test_as_many_shots_as_blocks_make_a_plain_kit(tmp_path, made):
    campaign = items()
    plain = build(tmp_path / "plain", campaign, preset="s2dit-1.8b", protocol=KitProtocol(rounds=8))
    manifest = build_chosen(tmp_path / "kit", campaign, 4, [H100])
    assert manifest.shots is UNSET
    assert manifest == plain
    for name in ("manifest.json", "README.md"):
        assert (tmp_path / "kit" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def phone_rows(known: LatencyTable) -> dict[str, Row]:
    scope = known.scope("stream", video=(18, 32))
    return {row.label: row for row in known.in_scope(scope)}


@pytest.mark.parametrize(
    ("known", "candidates", "shots"),
    [([H100], BLOCKS, 2), ([H100, IPHONE], THREE, 3), ([IPHONE], f"{THREE},{VARIANTS}", 4)],
)
def test_what_was_not_timed_is_foretold_and_planned_with(tmp_path, made, s2search, known, candidates, shots):
    manifest = build_chosen(tmp_path / "kit", items(candidates), shots, known)
    truth = {
        label: (20.4 if number % 2 else 19.6) * row.latency_ms
        for number, (label, row) in enumerate(phone_rows(known[0]).items())
    }
    labels = [item.part.label for item in items(candidates) if item.role == "block"]

    def at_its_speed(line):
        if line["kind"] != "sample":
            return line
        scatter = 1 + 0.004 * (line["slot"] % 5 - 2)
        row = manifest.rows[line["row"]]
        label = f"{row.part}[{row.options}]" if row.options else row.part
        return {**line, "ms": scatter * max(truth[label], 0.01)}

    (table,) = ingest(write_results(tmp_path / "kit", manifest, change=at_its_speed), tmp_path / "tables").tables
    scope = table.scope("stream")
    own = {row.label for row in table.rows if row.role == "block"}
    model = Transfer(known="+".join(one.name for one in known))
    missing = [label for label in labels if label not in own]
    assert (len(own), len(missing)) == (shots, len(labels) - shots)
    for label in missing:
        part, _, options = label.rstrip("]").partition("[")
        with pytest.raises(MissingRowError):
            Lookup().predict(table, scope, part, options)
        found = model.predict(table, scope, part, options)
        assert found.cost.latency_us == pytest.approx(1000 * truth[label], rel=0.05)
        assert found.provenance == "estimated"
    names = BLOCKS if "full" in labels else THREE
    words = ["plan", "--table", str(tmp_path / "tables" / table.name), "--candidates", names]
    words += ["--budget", f"{28 * max(truth.values()):.0f}ms"]
    done = s2search(*words, "--latency-model", f"transfer[known={model.known}]")
    assert done.code == 0
    assert all(line.startswith("lint: ") for line in done.err.splitlines()), done.err  # of sizes that the fake made up
    if missing:
        assert table.card.protocol["shots"]["known"] == [{"name": one.name, "digest": one.digest} for one in known]
    if {*missing} & {*names.split(",")}:
        assert s2search(*words).code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shots", "0", "--known", "h100"], "0 shots of 4 blocks at stream 3x18x32; 1 to 4; correct --shots"),
        (["--shots", "5", "--known", "h100"], "5 shots of 4 blocks at stream 3x18x32; 1 to 4; correct --shots"),
        (["--shots", "2"], "2 shots without a known table; name one or more with --known"),
        (["--known", "h100"], "--known is given without --shots; say how many blocks to time"),
        (["--shots", "2", "--known", "h10"], "no table is called 'h10'; installed: amd-epyc"),
        (["--shots", "2", "--known", "h100", "--known", "h100"], "is named twice; name it once"),
        (["--shots", "2", "--known", "amd-epyc"], "has no row for 'stream lcha 3x18x32' with 2048 channels; measure"),
        (["--shots", "2", "--known", "iphone-16-pro-max"], "has no row for 'stream full 3x18x32' with 2048 channels"),
        (["--shots", "2", "--known", "h100", "--video", "256x144"], "has no row for 'stream lcha 3x9x16' with 2048"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused_in_one_line(tmp_path, s2search, options, message):
    done = s2search("kit", "build", "--out", "kit", "--candidates", BLOCKS, *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "kit").exists()


def test_without_cheap_rows_to_share_four_blocks_are_asked_for():
    few = LatencyTable(name="few", card=H100.card, rows=tuple(row for row in H100.rows if row.role == "block"))
    with pytest.raises(InputError, match=r"3 shots of 4 blocks at stream 3x18x32; 4 to 4; correct --shots"):
        choose_items(items(), 3, [few])
    assert not choose_items(items(), 4, [few]).foretold


def test_the_command_says_what_is_left_to_be_foretold(tmp_path, made, capsys):
    assert kit_build(out=tmp_path / "kit", candidates=BLOCKS, shots=2, known=["h100"], rounds=8, seed=0) == 0
    manifest, _ = read_manifest(tmp_path / "kit")
    assert len(made) == len(manifest.rows) == 2 + 4
    assert f"Left to be predicted: {', '.join(manifest.shots.foretold)}." in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.slow
def test_a_table_measured_here_chooses_what_a_real_kit_converts(tmp_path, s2search):
    tiny = ["--preset", "s2dit-tiny", "--video", "64x48", "--scenario", "stream", "--candidates", "ssa,lcha"]
    measured = s2search("measure", *tiny, "--rounds", "3", "--out", "here")
    assert measured.code == 0, measured.err
    done = s2search("kit", "build", "--out", "kit", *tiny, "--shots", "1", "--known", "./here")
    assert done.code == 0
    # What else runs here shows in the table that was just measured, which the linter says; nothing else is said.
    assert [line for line in done.err.splitlines() if not re.match(r"lint: here: |converting: ", line)] == []
    manifest = json.loads((tmp_path / "kit/manifest.json").read_text())
    assert len(manifest["packages"]) == len(manifest["rows"]) == 1 + 4
    assert manifest["shots"]["known"] == [{"name": "here", "digest": LatencyTable.load(tmp_path / "here").digest}]
    assert f"Left to be predicted: {manifest['shots']['foretold'][0]}." in done.out.replace("\n", " ")
