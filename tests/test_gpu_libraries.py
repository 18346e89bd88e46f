"""NVIDIA's cuBLASLt and cuDNN: what the kernels ask of them, on fakes of ours; how they are found."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import test_cuda_kernels
import test_device
import test_graph
from cuda_calls import ON_GPU, call, compare, library
from fake_gpu import make_driver
from fake_libraries import FILES, Fake, make_library
from test_gpu import BEGIN, CFG
from twin import ROOT

from darknetpy import gpu, gpu_libraries
from darknetpy.cli import main
from darknetpy.core import core
from darknetpy.errors import DeviceError

CUBLAS, CUDNN = gpu_libraries.LIBRARIES
WORKSPACE = 3000        # what the fakes' better algorithm wants is 1000 and 3000 bytes


@pytest.fixture(scope="module")
def fakes(tmp_path_factory):
    """The fakes' files."""
    if ON_GPU:
        pytest.skip("the fakes work on the emulator's memory")
    folder = str(tmp_path_factory.mktemp("libraries"))
    return {name: make_library(folder, name) for name in FILES}


@pytest.fixture
def cublas(fakes):
    with Fake(fakes["cublas"], "cublas", least_work=0).used() as fake:
        yield fake


@pytest.fixture
def cudnn(fakes):
    with Fake(fakes["cudnn"], "cudnn").used() as fake:
        yield fake


def convolution(which):
    """The first of the kernels' cases of a pass: 0 forward, 1 data, 2 weights; with groups and strides of their own."""
    names = ["convolution_forward_cpu", "convolution_backward_data_cpu", "convolution_backward_weights_cpu"]
    return next((name, case) for name, case in CONVOLUTIONS if name == names[which] and case["s"][1]["groups"] == 3)


def convolution_of(which, channels, filters):
    """A pass of a convolution whose product has `filters` rows, or `channels` where it is 1, data."""
    s = {"batch": 2, "c": channels, "h": 5, "w": 6, "n": filters, "groups": 1, "size": 1, "stride_x": 1, "stride_y": 1, "dilation": 1,
         "pad": 0, "algorithm": 1, "out_h": 5, "out_w": 6}
    x, w, y = (np.ones(count) for count in (60 * channels, channels * filters, 60 * filters))
    case = {"s": ("conv_shape *", s), "workspace": np.zeros(1)}
    return [("convolution_forward_cpu", {**case, "x": x, "w": w, "ep": None, "y": y}),
            ("convolution_backward_data_cpu", {**case, "dy": y, "w": w, "add": 0, "dx": x}),
            ("convolution_backward_weights_cpu", {**case, "x": x, "dy": y, "dw": w})][which]


def depthwise(case):
    s = case["s"][1]
    return s["groups"] > 1 and s["groups"] == s["c"]


PRODUCTS = list(test_cuda_kernels.products())
CONVOLUTIONS = list(test_cuda_kernels.convolutions())


# ---- every product and convolution as by the CPU, and who has done it
@pytest.mark.parametrize("name, case", PRODUCTS, ids=range(len(PRODUCTS)))
def test_products_are_the_librarys(name, case, cublas):
    """Each of the four runs of `compare`, of arrays at 16 bytes and not; each alignment is asked about once."""
    compare(name, case)
    assert cublas["products"] == 4 and cublas["choices"] in (1, 2) and cublas.last_workspace == 1000
    compare(name, case)
    assert cublas["products"] == 8 and cublas["choices"] in (1, 2)


@pytest.mark.parametrize("name, case", CONVOLUTIONS, ids=range(len(CONVOLUTIONS)))
def test_convolutions_are_the_librarys(name, case, cudnn):
    """The first two runs of `compare` at least; arrays that do not begin at 16 bytes, and depthwise convolutions, are ours."""
    compare(name, case)
    done = sum(cudnn.passes)
    if depthwise(case):
        assert done == cudnn["choices"] == 0
        return
    assert done in (2, 4) and cudnn["choices"] == 1 and cudnn.last_workspace == WORKSPACE
    assert cudnn.passes[["forward" in name, "data" in name, "weights" in name].index(True)] == done


def test_outputs_that_the_library_would_count_otherwise_are_ours(cudnn):
    """As AlexeyAB's, who do not count the dilation."""
    name, case = convolution(0)
    s = {**case["s"][1], "out_h": case["s"][1]["out_h"] - 1}
    compare(name, {**case, "s": ("conv_shape *", s), "y": np.zeros(s["batch"] * s["n"] * s["out_h"] * s["out_w"])})
    assert cudnn["choices"] == 0


def test_small_products_are_ours(fakes):
    with Fake(fakes["cublas"], "cublas", least_work=33 * 65 * 129).used() as fake:
        for m, done in ((32, 0), (33, 2)):
            a, b, c = np.ones((m, 129)), np.ones((129, 65)), np.zeros((m, 65))
            case = {"TA": 0, "TB": 0, "M": m, "N": 65, "K": 129, "ALPHA": 1.0, "A": a, "lda": 129, "B": b, "ldb": 65,
                    "BETA": 0.0, "C": c, "ldc": 65}
            for _ in range(2):
                assert (call("gemm", case, False)["C"] == 129).all()
            assert fake["products"] == done


def test_product_without_beta_reads_nothing(cublas):
    test_cuda_kernels.test_product_without_beta_reads_nothing()
    assert cublas["products"] == 2


# ---- the choice of an algorithm
@pytest.mark.parametrize("bytes_, given", [(1000, 1000), (999, 0)])
def test_workspace_of_products_is_bounded(fakes, bytes_, given):
    """The fake's first algorithm wants more than allowed, whatever that is; its third 1000 bytes, its fourth nothing."""
    with Fake(fakes["cublas"], "cublas", least_work=0, most_workspace=bytes_).used() as fake:
        compare(*PRODUCTS[-1])
        assert fake["products"] == 4 and fake.last_workspace == given


@pytest.mark.parametrize("bytes_, given", [(3000, 3000), (2999, 0)])
@pytest.mark.parametrize("which", range(3))
def test_workspace_of_convolutions_is_bounded(fakes, which, bytes_, given):
    """The fake refuses the algorithm that would give other bits on every run, which it proposes first."""
    with Fake(fakes["cudnn"], "cudnn", most_workspace=bytes_).used() as fake:
        compare(*convolution(which))
        assert fake.passes[which] >= 2 and fake.last_workspace == given


@contextlib.contextmanager
def precision(number):
    """The thread's, for kernels that are called by hand."""
    library().dn_gpu_set_precision(number)
    try:
        yield
    finally:
        library().dn_gpu_set_precision(core.lib.DN_FP32)


@pytest.mark.parametrize("word, compute_type", [("FP32", 68), ("TF32", 77), ("BF16", 75)])
def test_products_of_a_precision(cublas, word, compute_type):
    """The library is asked for it, and anew; the fakes round nothing."""
    cublas["compute"] = compute_type
    with precision(getattr(core.lib, f"DN_{word}")):
        call(*PRODUCTS[-1], False)
    cublas["compute"] = 68
    call(*PRODUCTS[-1], False)
    assert (cublas["products"], cublas["choices"]) == (2, 1 + (word != "FP32"))


@pytest.mark.parametrize("word, math, given", [("FP32", 3, 3000), ("TF32", 0, 0)])
def test_convolutions_of_a_precision(cudnn, word, math, given):
    """Of those that TF32 is proposed, the fake's first would round to float16; the second wants no workspace."""
    name, case = convolution_of(0, 8, 8)
    cudnn["math"] = math
    with precision(getattr(core.lib, f"DN_{word}")):
        call(name, case, False)
    assert cudnn.passes[0] == 1 and cudnn.last_workspace == given
    cudnn["math"] = 3
    call(name, case, False)
    assert cudnn["choices"] == 1 + (word != "FP32")


@pytest.mark.parametrize("word, compute_type", [("TF32", 77), ("BF16", 75), ("FP16", None)])
def test_products_of_few_rows_are_not_rounded(cublas, word, compute_type):
    """Below eight rows, as by our own kernels; from eight on fp16 is ours."""
    for rows, asked in ((7, 68), (8, compute_type)):
        cublas["compute"] = asked or 0
        a, b, c = np.ones((rows, 33)), np.ones((33, 17)), np.zeros((rows, 17))
        case = {"TA": 0, "TB": 0, "M": rows, "N": 17, "K": 33, "ALPHA": 1.0, "A": a, "lda": 33, "B": b, "ldb": 17, "BETA": 0.0,
                "C": c, "ldc": 17}
        with precision(getattr(core.lib, f"DN_{word}")):
            assert (call("gemm", case, False)["C"] == 33).all()
        assert cublas["products"] == (2 if asked and rows == 8 else 1)


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("word", ["TF32", "BF16", "FP16"])
def test_convolutions_of_few_rows_are_not_rounded(cudnn, word, which):
    """Fewer than eight filters of a group, or channels where dx is computed; seven and eight of them."""
    for rows, math in ((7, 3), (8, 0)):
        cudnn["math"] = math
        with precision(getattr(core.lib, f"DN_{word}")):
            call(*convolution_of(which, *((rows, 9) if which == 1 else (9, rows))), False)
        assert cudnn.passes[which] == (2 if word == "TF32" and rows == 8 else 1)


def test_what_the_libraries_cannot_round_is_ours(cublas, cudnn):
    for number in (core.lib.DN_FP16, core.lib.DN_BF16):
        with precision(number):
            call(*convolution_of(0, 8, 8), False)
    assert cudnn["choices"] == 0
    with precision(core.lib.DN_FP16):
        call(*PRODUCTS[-1], False)
    assert cublas["choices"] == 0


def test_threads_have_handles_of_their_own_and_leave_them(cudnn):
    """Threads at work at once have one each; a later one takes what an earlier one has left, plans included."""
    name, case = convolution(0)
    call(name, case, False)
    assert (cudnn["handles"], cudnn["choices"]) == (1, 1)
    begun, one, failed = threading.Barrier(2), threading.Lock(), []

    def work(together):
        try:
            with one:       # the fakes count for one thread at a time
                call(name, case, False)
            if together:
                begun.wait(60)      # its handle is still its own when the other one asks
        except Exception as error:
            failed.append(error)

    before = len(os.listdir("/proc/self/task"))
    for threads in ([True, True], [False], [False]):
        running = [threading.Thread(target=work, args=[together]) for together in threads]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        end = time.monotonic() + 60     # join() returns before a thread gives back what is its own
        while len(os.listdir("/proc/self/task")) > before and time.monotonic() < end:
            time.sleep(0.01)
    assert not failed and (cudnn["handles"], cudnn["choices"]) == (3, 3) and cudnn.passes[0] == 5


def test_a_handle_is_kept_while_the_library_is_off(fakes):
    fake = Fake(fakes["cudnn"], "cudnn")
    for passes in (1, 2):
        with fake.used():
            call(*convolution(0), False)
        call(*convolution(0), False)
        assert (fake["handles"], fake["choices"], fake.passes[0]) == (1, 1, passes)


# ---- what the library cannot do, and what fails
def want_a_lot(fake):
    fake.variable("room", ctypes.c_size_t).value = 2**60


def test_products_without_workspace_are_ours(fakes):
    """As much as it wants is not to be had: no failure; it is not asked again, also when memory would be there."""
    with Fake(fakes["cublas"], "cublas", least_work=0, most_workspace=2**61).used() as fake:
        want_a_lot(fake)
        compare(*PRODUCTS[-1])
        fake.variable("room", ctypes.c_size_t).value = 0
        compare(*PRODUCTS[-1])
        assert fake["choices"] in (1, 2) and fake["products"] == 0


@pytest.mark.parametrize("which", range(3))
def test_convolutions_without_workspace_are_ours(fakes, which):
    with Fake(fakes["cudnn"], "cudnn", most_workspace=2**61).used() as fake:
        want_a_lot(fake)
        compare(*convolution(which))
        assert fake["choices"] == 1 and fake.passes == [0, 0, 0]


def test_a_pass_without_workspace_is_a_graph_of_ours(fakes):
    with Fake(fakes["cudnn"], "cudnn", most_workspace=2**61).used() as fake:
        want_a_lot(fake)
        net, alone = graph_pair()
        assert test_graph.train(net, 3) == test_graph.train(alone, 3)
        test_graph.assert_same_bits(net, alone)
        assert [told.begun for told in net.graphs.values()] == [2, 2] and fake["choices"] > 0 and fake.passes == [0, 0, 0]


@pytest.mark.parametrize("when", ["choice_status", "status"])
@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("status", [3000, 3002, 3999])
def test_convolutions_that_are_not_supported_are_ours(cudnn, which, when, status):
    name, case = convolution(which)
    cudnn[when] = status
    compare(name, case)
    cudnn[when] = 0
    compare(name, case)
    assert cudnn["choices"] == 1 and cudnn.passes[which] == (when == "status")


@pytest.mark.parametrize("when", ["choice_status", "status"])
@pytest.mark.parametrize("status", [8, 15])
def test_products_that_are_not_supported_are_ours(cublas, when, status):
    cublas[when] = status
    for _ in range(2):
        call(*PRODUCTS[-1], False)
        cublas[when] = 0
    assert cublas["choices"] == 1 and cublas["products"] == (when == "status")
    compare(*PRODUCTS[-1])


def test_what_no_algorithm_may_do_is_ours(cublas, cudnn):
    """Proposed are only those that want too much memory, fail, or give other bits on every run."""
    cublas["offered"] = cudnn["offered"] = 2
    compare(*PRODUCTS[-1])
    compare(*convolution(0))
    assert cudnn["choices"] == 1 and sum(cudnn.passes) == cublas["products"] == 0


@pytest.mark.parametrize("status, why", [(2000, "CUDNN_STATUS_BAD_PARAM"), (4000, "a fake failure"), (5000, "a fake failure")])
def test_failures_of_convolutions_are_told(cudnn, status, why):
    cudnn["choice_status"] = status
    with pytest.raises(AssertionError, match=f"^cuDNN: convolution_backward_data: {why}$"):
        call(*convolution(1), False)
    cudnn["choice_status"], cudnn["status"] = 0, status
    with pytest.raises(AssertionError, match=f"^cuDNN: convolution_forward: {why}$"):
        call(*convolution(0), False)
    cudnn["status"] = 0
    compare(*convolution(0))     # a pass that failed is no reason not to try again


def test_failures_of_products_are_told(cublas):
    cublas["status"] = 7
    with pytest.raises(AssertionError, match="^cuBLASLt: gemm: an invalid value$"):
        call(*PRODUCTS[0], False)
    cublas["status"] = 0
    compare(*PRODUCTS[0])


@pytest.mark.parametrize("name, status, why", [("cublas", 1, "cuBLASLt: no handle: the library was not initialized"),
                                               ("cudnn", 1001, "cuDNN: no handle: CUDNN_STATUS_NOT_INITIALIZED")])
def test_a_library_without_a_handle_is_not_used(fakes, name, status, why):
    fake = Fake(fakes[name], name)
    fake["create_status"] = status
    assert fake.use() == why
    compare(*PRODUCTS[-1])
    compare(*convolution(0))
    assert fake["handles"] == 1 and fake["choices"] == 0


# ---- whole networks
@pytest.mark.parametrize("name", ["classifier", "yolo", "recurrent"])
def test_networks_train_as_on_the_cpu(name, cublas, cudnn, tmp_path, rng):
    test_device.test_networks_train_as_on_the_cpu(name, False, tmp_path, rng)
    if name == "recurrent":
        assert cublas["products"] > 3 * 4 * cublas["choices"] and not sum(cudnn.passes)
    else:
        assert min(cudnn.passes) > 0 and sum(cudnn.passes) > cudnn["choices"] and cudnn["handles"] == 1


LAYERS = [case for case in test_device.CASES if re.match(r"conv|connected|crnn|lstm", case.layers[0])][::12]


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_layers_agree_with_the_cpu(case, cublas, cudnn):
    """A twelfth of the gradient checks' networks that begin with a product or a convolution."""
    test_device.test_every_layer_type_agrees_with_the_cpu(case)


# ---- finding them
def renamed(known, path):
    """What is known of a library, looked for where a test has put it."""
    return known._replace(files=(path,))


# ---- passes as graphs
def graph_pair():
    """Two networks of products and convolutions, the second without graphs."""
    lines = [test_graph.IMAGES[0], "convolutional filters=8 size=1 activation=relu", "connected output=9 activation=tanh",
             *test_graph.CLASSES]
    return [test_graph.network(*lines, shape=(3, 8, 8), options="learning_rate=.1", graph=graph) for graph in (True, False)]


def test_calls_of_libraries_stand_in_a_passs_graph(cublas, cudnn):
    counts = []
    nets = graph_pair()
    for net in nets:
        cudnn.variable("passes", ctypes.c_int * 3)[:] = [0, 0, 0]
        losses = test_graph.train(net, 6)
        counts.append((losses, cudnn.passes))
    assert counts[0] == counts[1] and min(counts[0][1]) >= 6
    test_graph.assert_same_bits(*nets)
    for told in nets[0].graphs.values():
        assert (told.parts, told.graphs, told.begun, told.reason) == (1, 1, 5, "")


def test_a_call_of_a_graph_that_fails_is_told(cudnn):
    net, _ = graph_pair()
    test_graph.train(net, 3)
    cudnn["status"] = 5000
    with pytest.raises(DeviceError):
        test_graph.train(net, 1)
    cudnn["status"] = 0
    assert np.isfinite(test_graph.train(net, 3)).all()


def test_a_library_that_is_turned_off_leaves_the_graph(fakes):
    nets = graph_pair()
    for net in nets:
        test_graph.train(net, 2)
        with Fake(fakes["cudnn"], "cudnn").used():
            test_graph.train(net, 3)
        test_graph.train(net, 3)
    test_graph.assert_same_bits(*nets)


def test_the_next_one_is_used_where_the_best_gives_no_handle(fakes, tmp_path, monkeypatch):
    """As that of CUDA 13 on a driver of CUDA 12."""
    older = make_library(tmp_path, "cublas", "VERSION=120900")
    best, module = Fake(fakes["cublas"], "cublas"), importlib.import_module(gpu.MODULES["emulated"])
    monkeypatch.setenv(gpu_libraries.VARIABLE, "cublas")
    monkeypatch.setattr(gpu_libraries, "LIBRARIES", (CUBLAS._replace(files=(fakes["cublas"], older)), CUDNN))
    best["create_status"] = 1
    try:
        assert gpu_libraries.use_all(module) == ((f"cuBLASLt 12.9.0 ({older})",), ())
        call(*PRODUCTS[-1], False)
        fake = ctypes.CDLL(older)
        assert ctypes.c_int.in_dll(fake, "fake_products").value == 1 and best["products"] == 0
        monkeypatch.setattr(gpu_libraries, "LIBRARIES", (CUBLAS._replace(files=(fakes["cublas"],)), CUDNN))
        why = "cannot be used: cuBLASLt: no handle: the library was not initialized; our own kernels are used"
        assert gpu_libraries.use_all(module) == ((), (f"cuBLASLt 13.10.0 ({fakes['cublas']}) {why}",))
    finally:
        module.lib.dn_gpu_use_cublas(module.ffi.NULL)


def test_fakes_are_opened(fakes):
    opened, problem = gpu_libraries.find(renamed(CUDNN, fakes["cudnn"]))
    assert problem is None and str(opened) == f"cuDNN 9.28.0 ({fakes['cudnn']})"
    opened, problem = gpu_libraries.find(renamed(CUBLAS, fakes["cublas"]))
    assert problem is None and str(opened) == f"cuBLASLt 13.10.0 ({fakes['cublas']})"


def test_what_is_not_there_is_no_problem(tmp_path):
    assert gpu_libraries.find(renamed(CUDNN, str(tmp_path / "libcudnn.so.9"))) == (None, None)
    assert gpu_libraries.find(renamed(CUDNN, "libdarknetpy_tests_cudnn.so.9")) == (None, None)


def test_wheels_are_looked_into(tmp_path, monkeypatch, fakes):
    """Namespace packages, as NVIDIA's wheels are; the best name first."""
    for folder, file, source in (("cu13", "libcublasLt.so.13x", "cublas"), ("cublas", "libcublasLt.so.12x", "cublas"),
                                 ("cudnn", "libcudnn.so.9x", "cudnn")):
        target = tmp_path / "nvidia" / folder / "lib"
        target.mkdir(parents=True)
        shutil.copy(fakes[source], target / file)
    monkeypatch.syspath_prepend(tmp_path)
    wanted = [(CUBLAS, ("libcublasLt.so.13x", "libcublasLt.so.12x"), "cu13/lib/libcublasLt.so.13x"),
              (CUBLAS, ("libcublasLt.so.14x", "libcublasLt.so.12x"), "cublas/lib/libcublasLt.so.12x"),
              (CUDNN, ("libcudnn.so.9x",), "cudnn/lib/libcudnn.so.9x")]
    for known, files, where in wanted:
        assert gpu_libraries.find(known._replace(files=files))[0].path == str(tmp_path / "nvidia" / where)


def test_broken_libraries_are_told(tmp_path, fakes):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    opened, problem = gpu_libraries.find(renamed(CUDNN, str(broken)))
    assert opened is None and re.match(rf"cuDNN cannot be opened: {broken}: .", problem)
    opened, problem = gpu_libraries.find(renamed(CUDNN, fakes["cublas"]))
    assert opened is None and problem == f"{fakes['cublas']} is no cuDNN: it has no function cudnnGetVersion"
    old = make_library(tmp_path, "cudnn", "VERSION=8907")
    opened, problem = gpu_libraries.find(renamed(CUDNN, old))
    assert opened is None and problem == f"cuDNN 0.89.7 ({old}) is too old: wanted 9.0 or a later one"
    opened, problem = gpu_libraries.find(CUDNN._replace(files=(old, fakes["cudnn"])))
    assert opened.path == fakes["cudnn"] and problem is None


def test_a_library_that_lacks_a_function_is_told(tmp_path):
    library()
    path = make_library(tmp_path, "cublas", "WITHOUT_HANDLES")
    with pytest.raises(DeviceError, match=rf"^cuBLASLt 13.10.0 \({path}\) cannot be used: it has no function cublasLtCreate$"):
        Fake(path, "cublas")


def test_the_environment_chooses(monkeypatch):
    for text, found in (("", "cublas cudnn"), ("all", "cublas cudnn"), ("none", ""), ("cublas", "cublas"), ("cudnn", "cudnn")):
        monkeypatch.setenv(gpu_libraries.VARIABLE, text)
        assert gpu_libraries.wanted() == set(found.split())
    monkeypatch.setenv(gpu_libraries.VARIABLE, "CUDNN")
    with pytest.raises(DeviceError, match="^DARKNETPY_GPU_LIBRARIES=CUDNN: wanted all, none, cublas, cudnn$"):
        gpu_libraries.wanted()


def test_info_says_what_there_is(monkeypatch, capsys, fakes, tmp_path):
    monkeypatch.setattr(gpu_libraries, "LIBRARIES", (renamed(CUBLAS, str(tmp_path / "none")), renamed(CUDNN, fakes["cudnn"])))
    monkeypatch.delenv(gpu_libraries.VARIABLE, raising=False)
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^cublas +not found \(pip install nvidia-cublas\)$", said, re.MULTILINE)
    assert re.search(rf"^cudnn +cuDNN 9\.28\.0 \({re.escape(fakes['cudnn'])}\)$", said, re.MULTILINE)
    monkeypatch.setenv(gpu_libraries.VARIABLE, "cublas")
    assert gpu_libraries.describe()["cudnn"] == "turned off by DARKNETPY_GPU_LIBRARIES"
    monkeypatch.setenv(gpu_libraries.VARIABLE, "x")
    assert set(gpu_libraries.describe().values()) == {"DARKNETPY_GPU_LIBRARIES=x: wanted all, none, cublas, cudnn"}


# ---- a network on a GPU: PyCUDA on a driver of ours, the libraries found by the dynamic linker
TRAIN = """
import ctypes
r = np.random.default_rng(0)
net = dn.load_network("a.cfg", device="gpu", train=True)
losses = [net.train_batch(*data(net)) for _ in range(3)]
passes = 0
if any("cuDNN" in one for one in net._device.libraries):
    passes = sum((ctypes.c_int * 3).in_dll(ctypes.CDLL("libcudnn.so.9"), "fake_passes"))
print(json.dumps([losses, [text.split(" (")[0] for text in net._device.libraries], net.notes, passes]))
"""


@pytest.fixture
def train(tmp_path_factory, tmp_path):
    """Train on a fake GPU with the libraries of a folder; return losses, libraries, notes and how often cuDNN was asked."""
    driver = make_driver(tmp_path_factory.mktemp("driver"))
    (tmp_path / "a.cfg").write_text(CFG.format(batch=4))

    def run(folder="", **environment):
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")])), "LD_LIBRARY_PATH": f"{folder}:{driver}"}
        done = subprocess.run([sys.executable, "-c", BEGIN + TRAIN], cwd=tmp_path, capture_output=True, text=True,
                              env={**os.environ, gpu_libraries.VARIABLE: "all", **paths, **environment}, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_gpu_uses_what_it_finds(train, fakes, tmp_path):
    folder = os.path.dirname(fakes["cudnn"])
    ours, none, notes, passes = train(folder, DARKNETPY_GPU_LIBRARIES="none")
    assert none == notes == [] and not passes
    losses, used, notes, passes = train(folder)
    assert used == ["cuBLASLt 13.10.0", "cuDNN 9.28.0"] and notes == [] and passes == 3 * 5
    np.testing.assert_allclose(losses, ours, rtol=1e-5)
    for name in FILES:      # one may be turned off, and one may be broken: told, and done without
        assert train(folder, DARKNETPY_GPU_LIBRARIES=name)[1] == [used[name == "cudnn"]]
    (tmp_path / FILES["cudnn"]).write_bytes(b"nothing")
    shutil.copy(fakes["cublas"], tmp_path)
    losses, used, notes, passes = train(tmp_path)
    assert losses == ours and used == ["cuBLASLt 13.10.0"] and len(notes) == 1
    assert re.fullmatch(r"gpu:0: cuDNN .*; our own kernels are used", notes[0]), notes
