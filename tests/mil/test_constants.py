import copy

import numpy as np
import pytest
import torch
from torch import nn

from s2search.mil.arguments import Arguments
from s2search.mil.constants import CONSTANTS
from s2search.mil.evaluator import Evaluator
from s2search.mil.library import load_coremltools, quiet_coremltools
from s2search.mil.numbers import KINDS
from s2search.mil.program import Program
from s2search.mil.rounding import WideSums
from tests.export.coreml.plain_program import convert, trace
from tests.mil.programs import builder, few_objects, load, named

_rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(96, 50, bias=False), nn.ReLU(), nn.Linear(50, 66))
    with few_objects():
        return convert(trace(network, {"x": torch.randn(3, 96)}))


def palettes(bits, **options):
    def compress(model):
        import coremltools.optimize.coreml as optimize

        configuration = optimize.OpPalettizerConfig(mode="uniform", nbits=bits, weight_threshold=100, **options)
        return optimize.palettize_weights(model, optimize.OptimizationConfig(global_config=configuration))

    return compress


def blocks(dtype, **options):
    def compress(model):
        import coremltools.optimize.coreml as optimize

        configuration = optimize.OpLinearQuantizerConfig(dtype=dtype, weight_threshold=100, **options)
        return optimize.linear_quantize_weights(model, optimize.OptimizationConfig(global_config=configuration))

    return compress


def pruned(model):
    import coremltools.optimize.coreml as optimize

    configuration = optimize.OpMagnitudePrunerConfig(target_sparsity=0.7, weight_threshold=100)
    return optimize.prune_weights(model, optimize.OptimizationConfig(global_config=configuration))


def jointly(compress, **options):
    def both(model):
        import coremltools.optimize.coreml as optimize

        if compress == "palettes":
            how = optimize.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=100, **options)
            then = optimize.palettize_weights
        else:
            how = optimize.OpLinearQuantizerConfig(dtype="int8", weight_threshold=100, **options)
            then = optimize.linear_quantize_weights
        return then(pruned(model), optimize.OptimizationConfig(global_config=how), joint_compression=True)

    return both


@pytest.mark.parametrize(
    ("compress", "operation"),
    [
        (palettes(2), "constexpr_lut_to_dense"),
        (palettes(3), "constexpr_lut_to_dense"),
        (palettes(4), "constexpr_lut_to_dense"),
        (palettes(6), "constexpr_lut_to_dense"),
        (palettes(8), "constexpr_lut_to_dense"),
        (palettes(4, granularity="per_grouped_channel", group_size=10, channel_axis=1), "constexpr_lut_to_dense"),
        (palettes(4, granularity="per_grouped_channel", group_size=2, channel_axis=0), "constexpr_lut_to_dense"),
        (palettes(4, enable_per_channel_scale=True), "constexpr_blockwise_shift_scale"),
        (blocks("int8", mode="linear_symmetric"), "constexpr_blockwise_shift_scale"),
        (blocks("uint8", mode="linear"), "constexpr_blockwise_shift_scale"),
        (blocks("int4", mode="linear", granularity="per_block", block_size=2), "constexpr_blockwise_shift_scale"),
        (blocks("uint4", mode="linear", granularity="per_channel"), "constexpr_blockwise_shift_scale"),
        (pruned, "constexpr_sparse_to_dense"),
        (jointly("palettes"), "constexpr_lut_to_sparse"),
        (
            jointly("palettes", granularity="per_grouped_channel", group_size=2, channel_axis=0),
            "constexpr_lut_to_sparse",
        ),
        (jointly("steps", mode="linear_symmetric"), "constexpr_sparse_blockwise_shift_scale"),
    ],
    ids=[
        *("2", "3", "4", "6", "8", "columns", "rows", "scales", "int8", "uint8", "int4", "uint4", "pruned"),
        *("sparse palettes", "sparse rows", "sparse int8"),
    ],
)
def test_compressed_weights_unpack_to_what_coremltools_unpacks_bit_for_bit(model, compress, operation, tmp_path):
    import coremltools.optimize.coreml as optimize

    with quiet_coremltools(), few_objects():
        compressed = compress(copy.copy(model))
        compressed.save(str(tmp_path / "compressed.mlpackage"))
        plain = optimize.decompress_weights(compressed)
        plain.save(str(tmp_path / "plain.mlpackage"))
    programs = [Program.load(tmp_path / f"{name}.mlpackage") for name in ("compressed", "plain")]
    assert operation in {found.type for found in programs[0].function().operations}
    got, expected = (matrices(program) for program in programs)
    assert len(got) == len(expected) == 2
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)
        assert a.unique().numel() > 1


def matrices(program):
    """Return the dense matrices that linear layers read, in the order of the layers."""
    weights = dict(Evaluator(program).weights())
    constants = program.function().constants
    found = []
    for operation in program.function().operations:
        if operation.type == "linear":
            (weight,) = operation.inputs["weight"]
            name = weight if isinstance(weight, str) else next(k for k, v in constants.items() if v is weight)
            found.append(weights[name])
    return found


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("count", [1, 5, 8, 43])
def test_packed_numbers_are_read_from_the_lowest_bit_on(bits, count):
    numbers = _rng.integers(0, 2**bits, size=count)
    word = sum(int(number) << (bits * place) for place, number in enumerate(numbers))
    data = word.to_bytes(-(-bits * count // 8), "little")
    np.testing.assert_array_equal(KINDS[f"uint{bits}"].unpack(data, count), numbers)


def test_four_bits_with_a_sign_are_from_minus_eight_to_seven():
    assert KINDS["int4"].unpack(bytes([0x70, 0x98]), 4).tolist() == [0, 7, -8, -7]


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint8", "int16", "uint16"])
def test_numbers_of_every_type_come_back_from_the_file(dtype, tmp_path):
    numbers = (100 * _rng.random((7, 11)) - (0 if dtype.startswith("u") else 50)).astype(dtype)
    mb = builder()

    def adds(x):
        return mb.add(x=x, y=mb.cast(x=mb.const(val=numbers, name="stored"), dtype="fp32"))

    x = np.zeros((7, 11), np.float32)
    program = load(tmp_path, adds, [x])
    assert any(constant.in_file and constant.type.dtype == dtype for constant in program.function().constants.values())
    (got,) = Evaluator(program).run(named(adds, [x])).outputs.values()
    np.testing.assert_array_equal(got, numbers.astype(np.float32))


def test_vectors_of_a_palette_lie_along_their_axis(tmp_path):
    """The example in coremltools' description of the operation, case 2.1."""
    load_coremltools()
    from coremltools.converters.mil.mil import types

    mb = builder()
    indices = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 0]]], types.nptype_from_builtin(types.uint1))
    table = np.array([1, 2, 3, 10, 20, 30], np.float16).reshape(1, 1, 1, 2, 3)

    def adds(x):
        weight = mb.constexpr_lut_to_dense(indices=indices, lut=table, vector_axis=np.int32(1))
        return mb.add(x=x, y=mb.cast(x=weight, dtype="fp32"))

    x = np.zeros((2, 6, 2), np.float32)
    (got,) = Evaluator(load(tmp_path, adds, [x])).run(named(adds, [x])).outputs.values()
    expected = [
        [[1, 1], [2, 2], [3, 3], [10, 1], [20, 2], [30, 3]],
        [[10, 10], [20, 20], [30, 30], [1, 1], [2, 2], [3, 3]],
    ]
    np.testing.assert_array_equal(got, expected)


def test_palettes_of_blocks_along_two_axes(tmp_path):
    load_coremltools()
    from coremltools.converters.mil.mil import types

    mb = builder()
    places = _rng.integers(0, 4, size=(6, 4))
    tables = np.arange(3 * 2 * 4, dtype=np.float16).reshape(3, 2, 4, 1)

    def adds(x):
        indices = places.astype(types.nptype_from_builtin(types.uint2))
        return mb.add(x=x, y=mb.cast(x=mb.constexpr_lut_to_dense(indices=indices, lut=tables), dtype="fp32"))

    x = np.zeros((6, 4), np.float32)
    (got,) = Evaluator(load(tmp_path, adds, [x])).run(named(adds, [x])).outputs.values()
    expected = [[tables[i // 2, j // 2, places[i, j], 0] for j in range(4)] for i in range(6)]
    np.testing.assert_array_equal(got, expected)


def test_sparse_vectors_of_a_palette_are_spread_with_their_mask():
    """The example in coremltools' description of the operation."""
    mask = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]])
    indices = torch.tensor([0, 1, 1, 0, 1, 1, 0, 0, 1], dtype=torch.int32)
    table = torch.tensor([[2.0, 20.0], [3.0, 30.0]]).reshape(1, 1, 2, 2)
    given = {
        "indices_mask": [mask],
        "indices_nonzero_data": [indices],
        "lut": [table],
        "vector_axis": [torch.tensor(0)],
    }
    spread, numbers = CONSTANTS["constexpr_lut_to_sparse"](Arguments(given, WideSums()))
    assert torch.equal(spread, mask.repeat_interleave(2, dim=0))
    dense = CONSTANTS["constexpr_sparse_to_dense"](Arguments({"nonzero_data": [numbers], "mask": [spread]}, WideSums()))
    assert dense[:4].tolist() == [[2, 3, 0, 0, 0, 0], [20, 30, 0, 0, 0, 0], [3, 2, 0, 0, 0, 3], [30, 20, 0, 0, 0, 30]]


def test_sparse_steps_have_a_scale_and_an_offset_per_column():
    """The example in coremltools' description of the operation."""
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]])
    numbers = torch.tensor([10, 11, 3, 4, 5, 6, 7, 8, 9], dtype=torch.int32)
    scale, offset = torch.tensor([[0.1, 0.2, 0.3, 0.4]]), torch.tensor([[1, 2, 3, 4]], dtype=torch.int32)
    given = {"data_mask": [mask], "nonzero_data": [numbers], "scale": [scale], "offset": [offset]}
    same, found = CONSTANTS["constexpr_sparse_blockwise_shift_scale"](Arguments(given, WideSums()))
    assert same is mask
    torch.testing.assert_close(found, torch.tensor([0.9, 1.8, 0.2, 0.4, 0.6, 0.9, 1.2, 0.7, 1.4]))


def test_weights_of_ios_16_are_unpacked_from_bytes():
    """Indices and masks of the older operations are packed into bytes, and the shape is told."""
    table = torch.tensor([0.5, 1.5, 2.5, 3.5])
    packed = torch.tensor([0b01101100, 0b00000011], dtype=torch.int32)  # coremltools' example: 0, 3, 2, 1, 3
    given = Arguments({"lut": [table], "indices": [packed], "shape": [torch.tensor([5])]}, WideSums())
    assert CONSTANTS["constexpr_lut_to_dense"](given).tolist() == [0.5, 3.5, 2.5, 1.5, 3.5]
    mask = torch.tensor([0b00001100], dtype=torch.int32)
    given = Arguments({"nonzero_data": [table[2:]], "mask": [mask], "shape": [torch.tensor([5])]}, WideSums())
    assert CONSTANTS["constexpr_sparse_to_dense"](given).tolist() == [0, 0, 2.5, 3.5, 0]
    data, scale = torch.tensor([[1, -2], [3, 4]], dtype=torch.int32), torch.tensor([0.5, 2.0])
    zero = torch.tensor([1, 0], dtype=torch.int32)
    given = Arguments(
        {"quantized_data": [data], "scale": [scale], "zero_point": [zero], "axis": [torch.tensor(-1)]}, WideSums()
    )
    assert CONSTANTS["constexpr_affine_dequantize"](given).tolist() == [[0, -4], [1, 8]]
    given = Arguments({"source_val": [table], "output_dtype": ["fp32"]}, WideSums())
    assert torch.equal(CONSTANTS["constexpr_cast"](given), table)
