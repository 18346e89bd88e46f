"""Matrix products and convolutions in TF32, FP16 and BF16 beside float64 products of operands that numpy has rounded.

What is left is the error of float32 sums: the bounds are those of float32's own tests.
"""

from __future__ import annotations

import kernel_calls
import numpy as np
import pytest
import test_convolution
import test_gemm
from cuda_calls import ON_GPU, build_module, call, library, load_library, need_compiler

from darknetpy.core import core

PRECISIONS = {"tf32": core.lib.DN_TF32, "fp16": core.lib.DN_FP16, "bf16": core.lib.DN_BF16}
LIMIT = 1e-5     # of the largest value: rounding to 11 bits and to 8 would be off by 2e-4 and more
FEW_ROWS = 8    # with fewer rows there are no tiles, and nothing is rounded
GEMMS = [(8, 1, 1), (16, 16, 16), (33, 65, 129), (9, 12, 1500), (130, 70, 40), (64, 129, 33), (20, 7, 0), (7, 9, 20), (130, 16300, 17)]
# as test_convolution.SHAPES: groups of 8 and more, tiles to their edges and beyond, strides, dilations, paddings, long sums; the last
# three have so many tiles that the large ones are taken, in one pass or two
CONVOLUTIONS = {
    "1x1": (2, 9, 5, 7, 11, 1, 1, 1, 1, 1, 0),
    "3x3": (2, 8, 9, 10, 17, 1, 3, 1, 1, 1, 1),
    "3x3 strided": (2, 8, 15, 13, 9, 1, 3, 2, 2, 1, 1),
    "unequal strides, no padding": (1, 8, 9, 12, 8, 1, 3, 2, 1, 1, 0),
    "dilated": (1, 9, 11, 12, 10, 1, 3, 1, 1, 2, 2),
    "dilated and strided": (2, 8, 11, 12, 9, 1, 3, 2, 2, 3, 3),
    "groups": (2, 16, 8, 7, 24, 2, 3, 1, 1, 1, 1),
    "groups strided": (1, 24, 9, 9, 48, 3, 3, 2, 2, 1, 1),
    "7x7": (1, 8, 13, 12, 16, 1, 7, 2, 2, 1, 3),
    "tiles": (3, 65, 9, 8, 70, 1, 3, 1, 1, 1, 1),
    "long": (4, 8, 24, 22, 8, 1, 3, 1, 1, 1, 1),
    "few": (2, 3, 8, 8, 5, 1, 3, 1, 1, 1, 1),
    "large tiles of filters": (1, 256, 1, 1, 256 * 66, 256, 1, 1, 1, 1, 0),
    "large tiles of channels": (1, 256 * 66, 1, 1, 256, 256, 1, 1, 1, 1, 0),
    "large tiles of places": (32, 2, 32, 32, 66, 1, 1, 1, 1, 1, 0),
}


def rounded(x, word):
    """What tensor cores get of an operand: the nearest number of the format; of FP16 after a scale that takes the largest to 2^14."""
    x = np.asarray(x, np.float32)
    bits = x.view(np.uint32)
    if word == "tf32":      # ties away from zero
        return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    if word == "bf16":      # ties to even
        return ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    largest = np.abs(x).max(initial=0)
    exponent = min(15 - int(np.frexp(largest)[1]), 126) if largest else 0
    return np.ldexp(np.ldexp(x.astype(float), exponent).astype(np.float16).astype(float), -exponent)


def matrix(x, rows, columns, ld):
    return np.lib.stride_tricks.as_strided(x, (rows, columns), (ld * x.itemsize, x.itemsize))


def rounded_matrix(x, rows, columns, ld, word):
    """The same array with the matrix in it rounded: what lies between its rows counts for nothing."""
    x = np.array(x, np.float32)
    if x.size:
        part = matrix(x, rows, columns, ld)
        part[...] = rounded(np.ascontiguousarray(part), word)
    return x


def gemm_case(size, ta, tb):
    m, n, k = size
    case = test_gemm._case(m, n, max(k, 1), ta, tb, beta=0.5, extra=3)
    for name, (rows, columns) in (("A", (k, m) if ta else (m, k)), ("B", (n, k) if tb else (k, n))):
        ld, values = case["ld" + name.lower()], case[name]
        gaps = np.ones(values.shape, bool)      # which would spoil the scale
        matrix(gaps, rows, columns, ld)[...] = False
        values[gaps] = 1e12
    return {**case, "K": k}


def rounded_gemm(case, word):
    m, n, k = (case[name] for name in "MNK")
    if m < FEW_ROWS:
        return case
    a, b = (k, m) if case["TA"] else (m, k), (n, k) if case["TB"] else (k, n)
    return {**case, "A": rounded_matrix(case["A"], *a, case["lda"], word), "B": rounded_matrix(case["B"], *b, case["ldb"], word)}


def convolution_cases(label):
    """Yield (kernel, rows of the product, its operands, case)."""
    fields = dict(zip(test_convolution.NAMES, CONVOLUTIONS[label]))
    reach = fields["dilation"] * (fields["size"] - 1) + 1
    for out, side, stride in (("out_h", "h", "stride_y"), ("out_w", "w", "stride_x")):
        fields[out] = (fields[side] + 2 * fields["pad"] - reach) // fields[stride] + 1
    fields["algorithm"] = 1
    r = np.random.default_rng(sum(CONVOLUTIONS[label]))
    n, c, groups, places = fields["n"], fields["c"], fields["groups"], fields["out_h"] * fields["out_w"]
    taps, area = c // groups * fields["size"] ** 2, fields["h"] * fields["w"]
    x = r.standard_normal(fields["batch"] * c * area)
    w, dy = r.standard_normal(n * taps) / taps**0.5, r.standard_normal(fields["batch"] * n * places) / places**0.5
    shape, workspace = ("conv_shape *", fields), np.zeros(1)
    ep = ("conv_epilogue *", {"scale": r.uniform(0.5, 1.5, n), "shift": r.standard_normal(n), "activation": "leaky"})
    yield "convolution_forward_cpu", n // groups, ("x", "w"), {
        "s": shape, "x": x, "w": w, "ep": ep, "y": np.zeros(dy.size), "workspace": workspace}
    yield "convolution_backward_data_cpu", c // groups, ("dy", "w"), {
        "s": shape, "dy": dy, "w": w, "add": 1, "dx": r.standard_normal(x.size), "workspace": workspace}
    yield "convolution_backward_weights_cpu", n // groups, ("x", "dy"), {
        "s": shape, "x": x, "dy": dy, "dw": r.standard_normal(w.size), "workspace": workspace}


@pytest.fixture
def precision():
    """A function that sets the precision of this thread's products, until the test ends."""
    yield lambda word: library().dn_gpu_set_precision(PRECISIONS[word])
    library().dn_gpu_set_precision(core.lib.DN_FP32)


def compare(name, case, wanted):
    """Run the kernel in one place and order, and in the others: the values wanted, and the same bits."""
    bits = set()
    for other in (0, 1):
        library().dn_gpu_set_backwards(other)
        found = call(name, case, bool(other))
        library().dn_gpu_set_backwards(0)
        results = {key: found[key] for key in ("C", "y", "dx", "dw") if key in found}
        bits.add(b"".join(values.tobytes() for values in results.values()))
        for key, values in results.items():
            largest = np.abs(wanted[key]).max(initial=1e-30)
            assert np.abs(values - wanted[key].ravel()).max(initial=0) <= LIMIT * largest, f"{name}: {key}"
    assert len(bits) == 1, f"{name}: the result depends on the order of blocks and threads"


@pytest.mark.parametrize("word", PRECISIONS)
@pytest.mark.parametrize("ta, tb", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("size", GEMMS, ids=str)
def test_matrices(size, ta, tb, word, precision):
    case = gemm_case(size, ta, tb)
    precision(word)
    compare("gemm", case, kernel_calls.expected("gemm", rounded_gemm(case, word)))


@pytest.mark.parametrize("word", PRECISIONS)
@pytest.mark.parametrize("label", CONVOLUTIONS)
def test_convolution_passes(label, word, precision):
    precision(word)
    for name, rows, operands, case in convolution_cases(label):
        given = {key: rounded(case[key], word) for key in operands} if rows >= FEW_ROWS else {}
        compare(name, case, kernel_calls.expected(name, {**case, **given}))


# ---- the rounding itself: a matrix times one is what was multiplied
def times_one(a):
    n = len(a)
    case = {"TA": 0, "TB": 0, "M": n, "N": n, "K": n, "ALPHA": 1.0, "A": a.ravel(), "lda": n, "B": np.eye(n).ravel(), "ldb": n,
            "BETA": 0.0, "C": np.zeros(n * n), "ldc": n}
    return call("gemm", case, False)["C"].reshape(n, n)


@pytest.mark.parametrize("word", PRECISIONS)
def test_ties_and_small_numbers(word, precision):
    ulps = np.array([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3.5])
    near = np.concatenate([1 + ulps * 2.0**-bits for bits in (7, 10)] + [2 - ulps * 2.0**-bits for bits in (8, 11)])
    a = np.zeros(256, np.float32)
    for at, scale in enumerate((1, -1, 2.0**-20, -(2.0**-29), 2.0**-38)):       # the last: where halves have a bit or none left
        a[at * 44 : at * 44 + 44] = scale * near
    a[220:230] = 1e-37, 2e-38, -3e-33, 0, -0.0, 1, 2.0**-60, 2.0**-24, 3 * 2.0**-25, 1.5
    a = a.reshape(16, 16)
    precision(word)
    np.testing.assert_array_equal(times_one(a), rounded(a, word).astype(np.float32))


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1, 1e9, 1e36])
@pytest.mark.parametrize("word, bits", [("tf32", 11), ("fp16", 11), ("bf16", 8)])
def test_numbers_of_any_size_keep_their_bits(word, bits, scale, precision, rng):
    a = (scale * rng.choice([-1, 1], (16, 16)) * 2.0 ** rng.uniform(-9, 0, (16, 16))).astype(np.float32)
    a[0] *= np.float32(2**-18)      # a channel of small values beside large ones
    precision(word)
    found = times_one(a)
    np.testing.assert_array_equal(found, rounded(a, word).astype(np.float32))
    assert (np.abs(found - a) <= 2.0**-bits * np.abs(a)).all() and (found != a).any()


@pytest.mark.parametrize("word", PRECISIONS)
def test_values_that_are_not_finite_spoil_their_own_row(word, precision, rng):
    a = rng.standard_normal((16, 16)).astype(np.float32)
    wanted = rounded(a, word).astype(np.float32)
    a[3, 4], a[5, 6] = np.inf, np.nan
    precision(word)
    found = times_one(a)
    finite = np.isfinite(found).all(axis=1)
    assert finite.tolist() == [row not in (3, 5) for row in range(16)] and found[3, 4] == np.inf
    # the largest finite value gives the scale
    a[~finite] = np.where(np.isfinite(a[~finite]), a[~finite], 0)
    wanted = rounded(a, word).astype(np.float32)
    np.testing.assert_array_equal(found[finite], wanted[finite])


# ---- architectures that lack tensor cores for some of it
@pytest.fixture(scope="module")
def without_tensor_cores(tmp_path_factory):
    """The library as it is on sm_75, which has halves only."""
    if ON_GPU:
        pytest.skip("emulated only")
    need_compiler()
    build = build_module()
    command, language = [*build.cxx(), *build.EMULATED, *build.INCLUDE], ["-x", "c++"]
    sources = build.sources(".cu", ".cpp")
    rounding = [path for path in sources if path.endswith(("gemm.cu", "convolution_kernels.cu"))]
    objects = build.compile_all(command, [path for path in sources if path not in rounding], language)
    objects += build.compile_all([*command, "-D__CUDA_ARCH__=750"], rounding, language)
    path = str(tmp_path_factory.mktemp("old") / "_darknet_cuda_emulated.abi3.so")
    build._link("_darknet_cuda_emulated", objects, ["-pthread"], path)
    return load_library("darknetpy._darknet_cuda_emulated", path)


@pytest.mark.parametrize("word", PRECISIONS)
def test_old_architectures_round_alike(word, without_tensor_cores, precision, monkeypatch):
    monkeypatch.setattr("cuda_calls._library", lambda: (without_tensor_cores, None))
    precision(word)
    for size in ((33, 65, 129), (9, 12, 1500)):
        case = gemm_case(size, 1, 0)
        compare("gemm", case, kernel_calls.expected("gemm", rounded_gemm(case, word)))
    for name, _, operands, case in convolution_cases("groups strided"):
        compare(name, case, kernel_calls.expected(name, {**case, **{key: rounded(case[key], word) for key in operands}}))
    a = np.float32(1e-9) * np.arange(1, 257, dtype=np.float32).reshape(16, 16) / 3
    np.testing.assert_array_equal(times_one(a), rounded(a, word).astype(np.float32))
