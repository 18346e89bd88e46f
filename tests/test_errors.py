"""Mistakes raise the right exception, and its message names what was wanted and what came."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from gradcheck import build

import darknetpy as dn
from darknetpy.core import core
from darknetpy.layer import Layer


def _f(*shape):
    return np.zeros(shape, np.float32)


def test_the_family():
    for name, also in (
        ("ArgumentError", ValueError),
        ("CfgError", ValueError),
        ("WeightsError", ValueError),
        ("DataError", ValueError),
        ("DeviceError", RuntimeError),
        ("OutOfMemory", MemoryError),
    ):
        assert issubclass(getattr(dn, name), dn.DarknetError) and issubclass(getattr(dn, name), also)


ARRAYS = {
    "dtype": (lambda: np.zeros((2, 3)), "float64"),
    "a list": (lambda: [0.0] * 6, "list"),
    "size": (lambda: _f(2, 4), "8 values"),
    "layout": (lambda: _f(3, 2).T, "C-contiguous"),
    "none": (lambda: None, "NoneType"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_kernel_arrays(kind):
    make, what = ARRAYS[kind]
    with pytest.raises(dn.ArgumentError, match=f"x: wanted.*6 values.*{what}|x: wanted.*{what}"):
        dn.kernels.mean_cpu(make(), 2, 3, 1, _f(3))


def test_read_only_outputs_are_refused():
    out = _f(3)
    out.flags.writeable = False
    with pytest.raises(dn.ArgumentError, match="mean: wanted a writable array"):
        dn.kernels.mean_cpu(_f(2, 3), 2, 3, 1, out)


@pytest.mark.parametrize(
    "sizes", [(0, 3, 1), (2, -1, 1), (2, 3, 1.5), (True, 3, 1), (2**16, 2**16, 1)], ids=str
)
def test_kernel_sizes(sizes):
    with pytest.raises(dn.ArgumentError):
        dn.kernels.mean_cpu(_f(2, 3), *sizes, _f(3))


def test_variance_of_one_value():
    with pytest.raises(dn.ArgumentError, match="batch \\* spatial = 1"):
        dn.kernels.variance_cpu(_f(3), _f(3), 1, 3, 1, _f(3))


@pytest.mark.parametrize(
    "make, what",
    [
        (lambda: dn.make_batchnorm_layer(0, 3, 3, 2), "batch=0"),
        (lambda: dn.make_batchnorm_layer(1.5, 3, 3, 2), "batch=1.5"),
        (lambda: dn.make_convolutional_layer(1, 4, 4, 3, 4, 2), "groups=2"),
        (lambda: dn.make_convolutional_layer(1, 4, 4, 3, 4, 1, 7), "size=7"),
        (lambda: dn.make_convolutional_layer(1, 4, 4, 3, 0), "filters=0"),
        (lambda: dn.make_convolutional_layer(1, 4, 4, 3, 2, 1, 3, 0), "stride_x=0"),
        (lambda: dn.make_convolutional_layer(1, 4, 4, 3, 2, activation="laeky"), "laeky"),
        (lambda: dn.make_maxpool_layer(1, 4, 4, 1, 2, 1, 4), "padding=4"),
        (lambda: dn.make_dropout_layer(1, 4, 1.0), "probability=1"),
        (lambda: dn.make_softmax_layer(1, 5, 2), "groups=2"),
        (lambda: dn.make_softmax_layer(1, 4, temperature=0.0), "temperature=0"),
        (lambda: dn.make_cost_layer(1, 4, "abs"), "abs"),
        (lambda: dn.make_crop_layer(1, 4, 4, 1, 5, 4), "crop_height=5"),
        (lambda: dn.make_upsample_layer(1, 4, 4, 1, 0), "stride=0"),
        (lambda: dn.make_upsample_layer(1, 4, 4, 1, -3), "stride=-3"),
        (lambda: dn.make_connected_layer(1, 2**16, 2**16), "2147483647"),
        (lambda: dn.make_batchnorm_layer(2**20, 2**10, 2**10, 2), "2147483647"),
        (lambda: dn.make_dropout_layer(2, 12, w=2, h=3, c=3), "12 values"),
    ],
)
def test_layer_options(make, what):
    with pytest.raises(dn.ArgumentError, match=what):
        make()


def test_passes_by_hand():
    l, net = dn.make_batchnorm_layer(2, 3, 3, 1), dn.Network(train=True)
    with pytest.raises(dn.ArgumentError, match="net.input is not set"):
        dn.forward_batchnorm_layer(l, net)
    net.input = _f(2, 1, 3, 4)
    with pytest.raises(dn.ArgumentError, match="net.input: wanted.*18 values.*24 values"):
        dn.forward_batchnorm_layer(l, net)
    with pytest.raises(dn.ArgumentError, match="has not run forward"):
        dn.backward_batchnorm_layer(l, net)
    with pytest.raises(dn.ArgumentError, match="wanted a maxpool layer, got a batchnorm layer"):
        dn.forward_maxpool_layer(l, net)
    with pytest.raises(dn.ArgumentError, match="float64"):
        net.input = np.zeros((2, 1, 3, 3))
    net.input = _f(2, 1, 3, 3)
    dn.forward_batchnorm_layer(l, net)
    net.delta = _f(5)
    with pytest.raises(dn.ArgumentError, match="delta: wanted.*18 values.*5 values"):
        dn.backward_batchnorm_layer(l, net)
    with pytest.raises(AttributeError, match="weights.*arrays are"):
        l.weights.fill(0)


def _network(train):
    net = dn.Network(2, c=4, train=train)
    net.add(dn.make_connected_layer(2, 4, 3, "linear"))
    net.add(dn.make_softmax_layer(2, 3))
    return net


def test_networks():
    with pytest.raises(dn.ArgumentError, match="train=False"):
        _network(False).train_batch(_f(2, 4), np.array([0, 1]))
    net = _network(True)
    with pytest.raises(dn.ArgumentError, match="x: wanted rows of 4 values"):
        net.predict(_f(3, 3))
    with pytest.raises(dn.ArgumentError, match="input: wanted.*8 values"):
        net.train_batch(_f(3, 4), np.array([0, 1]))
    with pytest.raises(dn.ArgumentError, match="truth: wanted.*6 values"):
        net.train_batch(_f(2, 4), _f(2, 4))
    with pytest.raises(dn.ArgumentError, match="needs a truth"):
        net.train_batch(_f(2, 4), None)
    with pytest.raises(dn.ArgumentError, match="inputs"):
        net.add(dn.make_connected_layer(2, 5, 3))
    with pytest.raises(KeyError, match="connected_0"):
        net["convolutional_0"]
    with pytest.raises(dn.ArgumentError, match="no number option moment"):
        net.option("moment")
    with pytest.raises(dn.DeviceError, match="gpu"):
        dn.Network(device="gpu")


def test_threads():
    for n in (0, -1, 1.5, True, "2", 1025, 2**40):
        with pytest.raises(dn.ArgumentError, match="positive integer"):
            dn.set_num_threads(n)


def test_threads_take_numpy_integers(threads):
    threads(np.int64(2))
    assert dn.get_num_threads() == 2


@pytest.mark.parametrize(
    "wrong, what",
    [
        (lambda: dn.make_batchnorm_layer(2**31, 3, 3, 3), "batch=2147483648: wanted an integer of 32 bits"),
        (lambda: dn.make_dropout_layer(2, 10, "half"), "probability='half': wanted a number"),
        (lambda: dn.make_route_layer(2, 1, ["a"], [4]), "input_layers=.*a.*: wanted an integer"),
        (lambda: dn.Network(2, 8, 8), "wanted c"),
        (lambda: dn.kernels.mean_cpu(_f(2, 3), 2.0, 3, 1, _f(3)), "batch=2.0: wanted a positive integer"),
        (lambda: setattr(_network(True), "seen", -1), "seen=-1: wanted an integer from 0"),
        (lambda: setattr(_network(True), "seed", 2**64), "seed=18446744073709551616: wanted"),
        (lambda: _network(True).set_option("learning_rate", np.nan), "learning_rate=nan: wanted a finite number"),
        (lambda: _network(True).set_option("learning_rate", 1e39), "learning_rate=1e\\+39: too large for a 32-bit float"),
        (lambda: _network(True).set_option("subdivisions", 0), r"subdivisions=0: out of range; wanted an integer in \[1, inf\)"),
        (lambda: _network(True).set_option("step", 1.5), "step=1.5: wanted an integer"),
        (lambda: _network(True).set_option("B1", 1), r"B1=1: out of range; wanted a number in \[0, 1\)"),
        (lambda: _network(True).set_option("max_gradient", -1), "max_gradient=-1: out of range"),
        (lambda: _network(True).set_option("policy", 1), "policy is fixed"),
        (lambda: _network(True).set_option("watch", 1), "watch is fixed"),
        (lambda: _network(True).set_option("rate", 1), "no number option rate"),
        (lambda: dn.kernels.scal_cpu(1, "x", _f(1), 1), "ALPHA='x': wanted a number"),
        (lambda: dn.kernels.fill_cpu(1, 0, _f(1), 0), "INCX=0: wanted a positive integer"),
        (lambda: dn.kernels.softmax_cpu(_f(1), 1, 1, 1, 1, 1, 1, "x", _f(1)), "temp='x': wanted a number"),
        (lambda: dn.kernels.softmax_cpu(_f(1), 1, 1, 1.5, 1, 1, 1, 1, _f(1)), "batch_offset=1.5: wanted an integer"),
        (lambda: dn.kernels.gemm(0, 0, 1, 1, 1, 1, _f(1), 1., _f(1), 1, 0, _f(1), 1), "lda=1.0: wanted an integer"),
        (lambda: dn.kernels.im2col_cpu(_f(1), 1, 2**12, 2**12, 64, 1, 32, _f(1)), "channels x ksize\\^2 x out_h x out_w = 687"),
        (lambda: setattr(dn.make_batchnorm_layer(1, 2, 2, 1), "rolling_momentum", "x"), "rolling_momentum='x': wanted a finite number"),
        (lambda: dn.update_layer(dn.make_batchnorm_layer(1, 2, 2, 1), 1, "x", 0, 0), "learning_rate='x': wanted a finite number"),
        (lambda: dn.make_region_layer(1, 1, 1, 1, 1, anchors="ab"), "anchors='a': wanted a number"),
        (lambda: dn.make_region_layer(1, 1, 1, 1, 1, anchors=[1, 1], thresh="x"), "thresh='x': wanted a number"),
        (lambda: _network(True).train_batch(None, np.array([0, 1])), "needs an input"),
    ],
)
def test_numbers_out_of_place(wrong, what):
    with pytest.raises(dn.ArgumentError, match=what):
        wrong()


def test_a_refused_batch_is_not_counted():
    net = _network(True)
    for x, truth in ((_f(3, 4), np.array([0, 1])), (_f(2, 4), np.array([0, 3])), (_f(2, 4), _f(2, 4))):
        with pytest.raises(dn.ArgumentError):
            net.train_batch(x, truth)
    assert net.seen == 0


@pytest.mark.parametrize(
    "layer",
    [
        lambda: dn.make_maxpool_layer(2, 6, 8, 3, 2, 2),                        # height and width changed places
        lambda: dn.make_maxpool_layer(2, 16, 9, 1, 2, 2),                       # as many values in another shape
        lambda: dn.make_route_layer(2, 1, [0], [143]),
        lambda: dn.make_route_layer(3, 1, [0], [144]),
        lambda: dn.make_shortcut_layer(2, 0, 8, 6, 3, 6, 8, 3),                 # its input
        lambda: dn.make_shortcut_layer(2, 0, 6, 8, 3, 6, 8, 4),                 # the other layer
    ],
)
def test_layers_made_for_another_shape_are_refused(layer):
    """Their arrays would have the wrong size for the maps that they get."""
    net = dn.Network(2, 6, 8, 3)                                                # width 6, height 8
    net.add(dn.make_maxpool_layer(2, 8, 6, 3, 1, 1))
    wrong = layer()
    with pytest.raises(dn.ArgumentError, match=r"layer 1 \["):
        net.add(wrong)
    assert len(net) == 1 and wrong.index == -1


def test_names_of_layers_are_exact():
    net = _network(True)
    assert net["connected_0"] is net.layers[0]
    for key in ("connected_00", "connected_\u00b2", "_0", "connected", None):
        with pytest.raises(KeyError, match="connected_0, softmax_1"):
            net[key]


def test_copies_are_refused():
    for thing in (_network(True), dn.make_batchnorm_layer(2, 3, 3, 3)):
        for function in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="C memory"):
                function(thing)


def test_assigning_to_an_array_copies_into_the_layer():
    l = dn.make_batchnorm_layer(2, 1, 1, 3)
    scales = l.scales
    l.scales = np.float32([1, 2, 3])
    l.scales += 1
    assert scales.tolist() == [2, 3, 4] and l.scales.ctypes.data == scales.ctypes.data
    with pytest.raises(dn.ArgumentError, match=r"scales: wanted.*3 values.*got 2 values"):
        l.scales = _f(2)
    del scales
    dn.resize_layer(l, 4, 4)                    # the assignments hold no array


def test_too_many_rows_name_the_cfg(tmp_path):
    path = tmp_path / "rows.cfg"
    path.write_text("[net]\nbatch=4\ntime_steps=2000000000\nwidth=8\nheight=8\nchannels=3\n[avgpool]\n")
    with pytest.raises(dn.CfgError, match=r"rows.cfg:1: .*8000000000 rows per forward pass"):
        dn.load_network(path, train=True)


def test_more_memory_than_there_is_is_refused_before_it_is_taken(tmp_path):
    path = tmp_path / "huge.cfg"
    path.write_text(
        "[net]\nbatch=1\nwidth=20000\nheight=20000\nchannels=3\n"
        + "[convolutional]\nfilters=5\nsize=3\npad=1\nactivation=leaky\n" * 400
    )
    with pytest.raises(dn.OutOfMemory, match=r"huge.cfg.*needs .*layer \d+ \[convolutional\] at line"):
        dn.load_network(path, train=True)


# ---- the core guards itself
def test_layer_before_it_has_a_shape():
    assert Layer("convolutional").flops == 0 and "batch 0" in repr(Layer("convolutional"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: dn.make_convolutional_layer(1, 2**31 - 1, 1, 1, 1, size=3, padding=32767),
        lambda: dn.make_maxpool_layer(1, 2**31 - 1, 2**15, 1, 32767, 1, padding=65532),
        lambda: dn.make_upsample_layer(1, 2**15, 2**15, 1, 32767),
    ],
)
def test_outputs_beyond_int(make):
    with pytest.raises(dn.ArgumentError, match="more than 2147483647 values"):
        make()


@pytest.mark.parametrize("value", [0.5, 1e20, float("nan")])
def test_lists_of_layers_are_whole_numbers(value):
    with pytest.raises(dn.ArgumentError, match="layers: .*whole numbers"):
        Layer("route")._set_options({"layers": [0, value]})


def test_tree_groups_are_positive():
    layer = Layer("softmax")
    layer._set_options({"tree": [-3, 7], "temperature": 1, "groups": 1})
    with pytest.raises(dn.ArgumentError, match="group of -3"):
        layer._build(2, 0, 0, 4)


def test_large_numbers_stand_in_messages_in_full():
    with pytest.raises(dn.DarknetError, match="size=9999999: wanted 1 to 32767"):
        dn.make_maxpool_layer(1, 4, 4, 1, 9999999, 1)


def test_padding_beyond_int():
    with pytest.raises(dn.ArgumentError, match="pad=1073741824"):
        dn.kernels.im2col_cpu(_f(1, 2, 2), 1, 2, 2, 1, 2**30, 2**30, _f(9))


def test_added_layer_keeps_its_arrays(rng):
    """The core itself refuses a layer whose arrays would have to grow."""
    net, l = dn.Network(2, 1, 1, 48), dn.make_batchnorm_layer(2, 4, 4, 3)
    with pytest.raises(dn.ArgumentError, match="biases would change from 3 to 48"):
        net._core.check(net._core.lib.add_layer(net._handle, l._handle))
    assert (l.c, l.h, l.w) == (3, 4, 4)


def test_layer_made_for_inference_has_no_backward_pass(rng):
    layer = build(["batchnorm"], (3, 4, 4), train=False, core=core).layers[0]
    net = dn.Network(train=True)
    net.input = _f(2, 3, 4, 4)
    dn.forward_layer(layer, net)
    with pytest.raises(dn.ArgumentError, match="made for inference"):
        dn.backward_layer(layer, net)
