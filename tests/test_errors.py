"""Mistakes raise the right exception, and its message names what was wanted and what came."""

from __future__ import annotations

import numpy as np
import pytest

import darknetpy as dn


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
    for n in (0, -1, 1.5, True, "2"):
        with pytest.raises(dn.ArgumentError, match="positive integer"):
            dn.set_num_threads(n)


def test_more_memory_than_there_is_is_refused_before_it_is_taken(tmp_path):
    path = tmp_path / "huge.cfg"
    path.write_text(
        "[net]\nbatch=1\nwidth=20000\nheight=20000\nchannels=3\n"
        + "[convolutional]\nfilters=5\nsize=3\npad=1\nactivation=leaky\n" * 400
    )
    with pytest.raises(dn.OutOfMemory, match=r"huge.cfg.*needs .*layer \d+ \[convolutional\] at line"):
        dn.load_network(path, train=True)
