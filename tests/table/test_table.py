from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import jsonschema
import msgspec
import pytest

from s2search.errors import InputError, S2SearchError, TableError, UnknownNameError
from s2search.tables.row import Row, parse_row
from s2search.tables.table import LatencyTable, installed_tables, json_schema, open_table

IPHONE = "iphone-16-pro-max.coreml.w4a8"


@pytest.fixture
def table() -> LatencyTable:
    return open_table(IPHONE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(installed_tables()[IPHONE], tmp_path / IPHONE))


def test_a_saved_table_loads_as_the_same_value(table: LatencyTable, tmp_path: Path) -> None:
    table.save(tmp_path / IPHONE)
    assert LatencyTable.load(tmp_path / IPHONE) == table


def test_a_table_survives_pandas(table: LatencyTable) -> None:
    again = LatencyTable.from_pandas(table.name, table.card, table.to_pandas())
    assert again.rows == table.rows
    assert again.digest == table.digest


def test_the_digest_sees_every_number_but_neither_order_nor_name(table: LatencyTable) -> None:
    reordered = dataclasses.replace(table, name="other", rows=table.rows[::-1])
    assert reordered.digest == table.digest
    nudged = dataclasses.replace(table.rows[0], latency_ms=table.rows[0].latency_ms + 0.001)
    assert dataclasses.replace(table, rows=(nudged, *table.rows[1:])).digest != table.digest


def test_a_card_without_a_common_deviation_keeps_the_digest_that_it_had_before_there_was_one(
    table: LatencyTable,
) -> None:
    assert table.digest.startswith("sha256:ac2bcb9acf8d4188929206df9b2028ca")
    stated = {
        dataclasses.replace(table, card=dataclasses.replace(table.card, common_std_relative=value)).digest
        for value in (None, 0.0, 0.01)
    }
    assert len(stated) == 3


def test_saving_never_overwrites(table: LatencyTable, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TableError, match="already holds a table"):
        table.save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_every_shipped_table_is_valid_under_the_shipped_schema() -> None:
    for name, folder in installed_tables().items():
        schema = json.loads((folder.parent / "schema.json").read_text())
        now = json.loads(json.dumps(json_schema()))
        assert schema == now, "latency_tables/schema.json is stale: write json_schema() to it"
        jsonschema.validate(json.loads((folder / "card.json").read_text()), schema["card"])
        for row in LatencyTable.load(folder).rows:
            jsonschema.validate(msgspec.to_builtins(row), schema["row"])
        assert name == LatencyTable.load(folder).name


def test_measured_tables_carry_the_samples_that_they_were_made_of() -> None:
    for folder in installed_tables().values():
        card = LatencyTable.load(folder).card
        if card.provenance.kind == "measured":
            campaigns = [part["protocol"] for part in card.protocol.get("merged", [])]
            names = [f"samples.{number}.jsonl" for number, _ in enumerate(campaigns, start=1)] or ["samples.jsonl"]
            for name, protocol in zip(names, campaigns or [card.protocol], strict=True):
                digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
                assert protocol["samples_digest"] == f"sha256:{digest}"
            assert {path.name for path in folder.glob("samples*")} == set(names)


def test_a_table_opens_by_the_first_words_of_its_name() -> None:
    assert open_table("iphone-16-pro-max").name == IPHONE
    with pytest.raises(UnknownNameError, match="no table is called 'iphone'"):
        open_table("iphone")


@pytest.mark.parametrize(
    ("column", "cell", "complaint"),
    [
        ("latency_ms", "-1", "is -1.0; milliseconds from 0.001 to 1e+09"),
        ("latency_ms", "1e-7", "is 1e-07"),
        ("latency_ms", "1e300", "is 1e+300"),
        ("weight_bytes", "9" * 25, "line 2"),
        ("channels", "7", "do not divide into 16 heads"),
        ("latency_ms", "0", "is 0.0"),
        ("latency_ms", "nan", "is nan"),
        ("latency_ms", "inf", "is inf"),
        ("latency_ms", "fast", "Expected `float`"),
        ("latency_ms", "", "missing required field `latency_ms`"),
        ("latency_std_ms", "-0.1", "latency_std_ms of lcha is -0.1"),
        ("weight_bytes", "-5", ">= 0"),
        ("frames", "0", ">= 1"),
        ("scenario", "film", "Invalid enum value 'film'"),
        ("latency_provenance", "guessed", "Invalid enum value 'guessed'"),
        ("latency_provenance", "measured", "is called measured but has no samples"),
    ],
)
def test_a_bad_cell_is_refused_with_its_line(folder: Path, column: str, cell: str, complaint: str) -> None:
    lines = (folder / "table.csv").read_text().splitlines()
    cells = lines[1].split(",")
    cells[lines[0].split(",").index(column)] = cell
    (folder / "table.csv").write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]))
    with pytest.raises(TableError, match="line 2 of") as refused:
        LatencyTable.load(folder)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("mend", "complaint"),
    [
        (lambda text: text.replace("latency_ms", "latency", 1), "lacks the column 'latency_ms'"),
        (lambda text: text.replace(",note", ",remark", 1), "unknown column 'remark'"),
        (lambda text: text + text.splitlines()[1] + "\n", "both give lcha"),
        (lambda text: text.splitlines()[0] + "\n", "has no rows"),
        (lambda text: text + "block,lcha\n", "too many or too few cells"),
        (lambda text: text + '"', "unexpected end of data"),
        (lambda text: "", "is empty"),
    ],
)
def test_a_bad_csv_is_refused(folder: Path, mend: object, complaint: str) -> None:
    assert callable(mend)
    (folder / "table.csv").write_text(mend((folder / "table.csv").read_text()))
    with pytest.raises(TableError, match=complaint):
        LatencyTable.load(folder)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not a card"),
        ("{}", "missing required field"),
        ('{"schema": "s2search.table/9"}', "s2search.table/9"),
        ('{"pipelines": {}}', r"did you mean 'pipeline'"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_bad_card_is_refused(folder: Path, content: str | None, complaint: str) -> None:
    (folder / "card.json").unlink()
    if content is not None:
        (folder / "card.json").write_text(content)
    with pytest.raises(InputError, match=complaint):
        LatencyTable.load(folder)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"steps": 4', '"steps": 0', "steps of the pipeline is 0"),
        ('"chunk_frames": 12', '"chunk_frames": -1', "chunk_frames of the pipeline is -1"),
        ('"text_ms": 4.0', '"text_ms": -500', "text_ms of the pipeline is -500"),
        ('"decoder_ms": 80.0', '"decoder_ms": 1e308', "decoder_ms of the pipeline"),
        ('"pipeline": {', '"common_std_relative": -0.1, "pipeline": {', "common_std_relative of the card is -0.1"),
        ('"pipeline": {', '"common_std_relative": 1.5, "pipeline": {', "a fraction of latency from 0 to 1"),
        ('"latency": "ms"', '"latency": "s"', "Invalid enum value 's'"),
    ],
)
def test_a_card_that_would_mislead_is_refused(folder: Path, old: str, new: str, complaint: str) -> None:
    card = (folder / "card.json").read_text()
    assert old in card
    (folder / "card.json").write_text(card.replace(old, new))
    with pytest.raises(S2SearchError, match=complaint):
        LatencyTable.load(folder)


def test_a_byte_order_mark_is_no_column(folder: Path) -> None:
    (folder / "table.csv").write_text((folder / "table.csv").read_text(), encoding="utf-8-sig")
    assert LatencyTable.load(folder).rows


def test_any_bytes_are_a_table_or_an_error(folder: Path) -> None:
    original = (folder / "table.csv").read_bytes()
    for position in range(0, len(original), 37):
        (folder / "table.csv").write_bytes(original[:position] + b"\xff\x00," + original[position + 3 :])
        with pytest.raises(S2SearchError):
            LatencyTable.load(folder)


def test_several_video_sizes_ask_for_a_choice(table: LatencyTable) -> None:
    wide = [dataclasses.replace(row, height=30, width=52) for row in table.rows if row.scenario == "stream"]
    both = dataclasses.replace(table, rows=(*table.rows, *wide))
    with pytest.raises(
        TableError, match="hold 2 video sizes: 512x288, 832x480; choose one, for example --video 512x288"
    ):
        both.scope("stream")
    assert both.scope("stream", video=(30, 52)).shape.grid == "3x30x52"


def test_several_precisions_ask_for_a_choice(table: LatencyTable) -> None:
    full = [dataclasses.replace(row, precision="float16") for row in table.rows if row.scenario == "stream"]
    both = dataclasses.replace(table, rows=(*table.rows, *full))
    with pytest.raises(TableError, match="choose one with --precision"):
        both.scope("stream")
    assert both.scope("stream", precision="float16").precision == "float16"
    with pytest.raises(TableError, match="no rows with precision 'int3'; it has: float16, w4a8"):
        both.scope("stream", precision="int3")


def test_rows_know_their_shape(table: LatencyTable) -> None:
    row: Row = table.rows[0]
    assert (row.shape.tokens, row.shape.low_tokens, row.shape.context_frames) == (1728, 432, 6)


@pytest.mark.parametrize(
    ("column", "value"),
    [("launch_us", "nan"), ("launch_us", "inf"), ("launch_us", "-5"), ("order", "-1"), ("measured_at", "yesterday")],
)
def test_every_column_is_checked(column, value):
    row = next(row for row in open_table("amd-epyc").rows if row.samples)
    cells = {name: "" if cell is None else str(cell) for name, cell in dataclasses.asdict(row).items()}
    with pytest.raises(TableError, match=f"line 7.*{column}"):
        parse_row({**cells, column: value}, where="line 7")


def test_counts_may_be_written_as_data_frames_write_them():
    row = next(row for row in open_table("amd-epyc").rows if row.samples)
    cells = {name: "" if cell is None else str(cell) for name, cell in dataclasses.asdict(row).items()}
    floats = {name: f"{cell}.0" for name, cell in cells.items() if cell.isdigit()}
    assert {"samples", "weight_bytes", "frames", "order"} <= set(floats)
    assert parse_row({**cells, **floats}, where="line 7") == row
    with pytest.raises(TableError, match="line 7"):
        parse_row({**cells, "samples": "30.5"}, where="line 7")
