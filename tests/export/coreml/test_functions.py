"""How packages of one function become one: a weight.bin where equal numbers stand once."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.errors import CheckError
from s2search.exporters.coreml.functions import _WeightWriter
from s2search.mil.numbers import TensorType, WeightFile

FLOAT16 = 1  # kind of numbers


def blob(values):
    data = np.asarray(values, np.float16).tobytes()
    return struct.pack("<IIQQQ32x", 0xDEADBEEF, FLOAT16, len(data), 64, 0) + data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@given(arrays=st.lists(st.lists(st.integers(-8, 8), min_size=1, max_size=70), max_size=8))
def test_every_blob_is_read_back_and_equal_ones_stand_once(folder, arrays):
    writer = _WeightWriter(folder / "weight.bin")
    offsets = [writer.add(io.BytesIO(blob(values)), 0, (len(values),)) for values in arrays]
    writer.close()
    assert struct.unpack_from("<II", (folder / "weight.bin").read_bytes()) == (len({*map(tuple, arrays)}), 2)
    file = WeightFile(folder / "weight.bin")
    for values, offset in zip(arrays, offsets, strict=True):
        assert offset % 64 == 0
        assert file.read(offset, TensorType(dtype="float16", shape=(len(values),))).tolist() == values
    assert len(set(offsets)) == len({*map(tuple, arrays)})


def test_equal_numbers_of_other_shapes_stand_apart_as_coremltools_keeps_them(folder):
    writer = _WeightWriter(folder / "shapes.bin")
    assert writer.add(io.BytesIO(blob([1, 2])), 0, (2,)) != writer.add(io.BytesIO(blob([1, 2])), 0, (1, 2))
    writer.close()


def test_blobs_larger_than_a_chunk_are_copied_whole(folder, monkeypatch):
    monkeypatch.setattr("s2search.exporters.coreml.functions._CHUNK_BYTES", 7)
    writer = _WeightWriter(folder / "chunks.bin")
    offset = writer.add(io.BytesIO(blob(range(100))), 0, (100,))
    writer.close()
    read = WeightFile(folder / "chunks.bin").read(offset, TensorType(dtype="float16", shape=(100,)))
    assert read.tolist() == [*range(100)]


@pytest.mark.parametrize(
    ("content", "line"), [(bytes(64), "begins with 0x00000000"), (blob([1])[:-1], "beyond the end")]
)
def test_a_weight_that_is_not_there_is_one_line(folder, content, line):
    writer = _WeightWriter(folder / "harmed.bin")
    with pytest.raises(CheckError, match=line):
        writer.add(io.BytesIO(content), 0, (1,))
    writer.close()
