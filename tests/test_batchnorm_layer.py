"""[batchnorm]: the paper's numbers, fused and composed, every gradient.  Loss of the gradient checks: random weights times the output.

batchnorm=darknet follows pjreddie's CPU code, whose backward pass is not the derivative of its forward pass: it has no gradient
check, and is compared with recordings in test_golden.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import reference
from gradcheck import SCALES, Case, check

import darknetpy as dn

SHAPES = {
    "image": (3, 4, 5),
    "1x1": (4, 1, 1),
    "flat": (5,),
    "one channel": (1, 3, 3),
    "67 channels": (67, 1, 1),
    "row": (2, 1, 9),
}


def _cases():
    for name, shape in SHAPES.items():
        for way, net in (("fused", ""), ("composed", "fused=0")):
            yield Case(f"batchnorm {name} {way}", ["batchnorm"], shape, batch=3, net=net)
            yield Case(
                f"batchnorm {name} {way} inference", ["batchnorm"], shape, batch=2, net=net, train=False
            )
    for line, shape in (
        ("batchnorm", (3, 4, 5)),
        ("convolutional filters=3 size=2 activation=mish batch_normalize=1", (2, 3, 3)),
        ("connected output=4 activation=tanh batch_normalize=1", (5,)),
    ):
        for train in (True, False):
            name = f"{line.split()[0]} with x_norm{'' if train else ' inference'}"
            yield Case(name, [line], shape, batch=4, train=train, keep_x_norm=True)
    # Beyond a stretch of the twin (STRETCH, csrc/normalize_rows.h): few channels, whose images are parts; and more.
    for way, net in (("fused", ""), ("composed", "fused=0")):
        for filters, activation in ((3, "tanh"), (3, "mish"), (8, "tanh"), (8, "mish")):
            layer = f"convolutional filters={filters} size=1 activation={activation} batch_normalize=1"
            name = f"batchnorm long rows of {filters} {activation} {way}"
            yield Case(name, [layer], (2, 1, 270), batch=2, net=net)
    for statistics in ("cumulative", "last", "frozen"):
        for way, net in (("fused", ""), ("composed", "fused=0")):
            layer = [f"batchnorm statistics={statistics}"]
            yield Case(f"batchnorm {statistics} {way}", layer, (3, 2, 4), batch=3, net=net)
    yield Case("batchnorm batch 1", ["batchnorm"], (2, 2, 3), batch=1)
    yield Case("batchnorm frozen batch 1", ["batchnorm statistics=frozen"], (4, 1, 1), batch=1)
    yield Case(
        "batchnorm keeps the delta of others",
        [
            "convolutional filters=2 size=1 activation=tanh",
            "batchnorm",
            "route layers=0",
            "batchnorm",
            "route layers=0,1,3",
        ],
        (2, 3, 2),
    )
    yield Case(
        "batchnorm composed keeps the delta of others",
        [
            "convolutional filters=2 size=1 activation=tanh",
            "batchnorm",
            "route layers=0",
            "batchnorm",
            "route layers=0,1,3",
        ],
        (2, 3, 2),
        net="fused=0",
    )


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


def _run(rng, shape, scale=1.0, shift=0.0, fused=True):
    batch, c, h, w = shape
    l = dn.make_batchnorm_layer(batch, w, h, c)
    l.fused = fused
    l.scales[:] = rng.uniform(0.5, 1.5, c)
    l.biases[:] = rng.standard_normal(c)
    net = dn.Network(train=True)
    net.input = (shift + scale * rng.standard_normal(shape)).astype(np.float32)
    dn.forward_batchnorm_layer(l, net)
    l.delta[:] = rng.standard_normal(shape)
    dn.backward_batchnorm_layer(l, net)
    return l, net


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "composed"])
@pytest.mark.parametrize("scale, shift", [(1.0, 0.0), (1e-2, 0.0), (1.0, 30.0), (1e-3, 1.0)])
@pytest.mark.parametrize(
    "shape",
    [(2, 3, 4, 5), (64, 8, 1, 1), (1, 2, 5, 7), (3, 1, 1, 257), (5, 70, 1, 1), (2, 2, 16, 16)],
    ids=str,
)
def test_follows_the_paper(rng, shape, scale, shift, fused):
    l, net = _run(rng, shape, scale, shift, fused)
    wanted = reference.batchnorm_layer(
        net.input.astype(float), l.scales.astype(float), l.biases.astype(float), l.delta.astype(float)
    )
    # The input is float32, so x - mean has the digits of x: with a shift of 30 deviations there are fewer of them.
    slack = 1 + shift / scale
    for name in (
        "output",
        "mean",
        "variance",
        "x_norm",
        "mean_delta",
        "variance_delta",
        "scale_updates",
        "bias_updates",
    ):
        value = getattr(l, name).reshape(wanted[name].shape)
        largest = np.abs(wanted[name]).max()
        np.testing.assert_allclose(
            value, wanted[name], rtol=1e-5 * slack, atol=1e-6 * slack * max(largest, 1e-6), err_msg=name
        )
    np.testing.assert_allclose(
        net.delta, wanted["dx"], rtol=1e-5 * slack, atol=1e-6 * slack * np.abs(wanted["dx"]).max()
    )


def test_rolling_averages(rng):
    l, net = _run(rng, (4, 3, 2, 5))
    m, x = 4 * 2 * 5, net.input.astype(float)
    np.testing.assert_allclose(l.rolling_mean, 0.01 * x.mean(axis=(0, 2, 3)), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        l.rolling_variance, 0.01 * x.var(axis=(0, 2, 3)) * m / (m - 1), rtol=1e-5, atol=1e-7
    )
    dn.forward_batchnorm_layer(l, net)
    np.testing.assert_allclose(
        l.rolling_mean, (0.99 * 0.01 + 0.01) * x.mean(axis=(0, 2, 3)), rtol=1e-5, atol=1e-7
    )


def test_inference_uses_the_rolling_averages_and_leaves_them(rng):
    l = dn.make_batchnorm_layer(2, 3, 4, 5)
    l.rolling_mean[:], l.rolling_variance[:] = rng.standard_normal(5), rng.uniform(0.5, 2, 5)
    mean, variance = l.rolling_mean.copy(), l.rolling_variance.copy()
    net = dn.Network()
    net.input = rng.standard_normal((2, 5, 4, 3)).astype(np.float32)
    dn.forward_batchnorm_layer(l, net)
    c = (slice(None), None, None)
    wanted = (net.input.astype(float) - mean[c]) / np.sqrt(variance[c].astype(float) + 1e-5)
    np.testing.assert_allclose(l.output, wanted, rtol=1e-5, atol=1e-6)
    assert (l.rolling_mean == mean).all() and (l.rolling_variance == variance).all()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (6, 5, 1, 1)], ids=str)
def test_fused_equals_composed(shape):
    one, net_one = _run(np.random.default_rng(5), shape, fused=True)
    two, net_two = _run(np.random.default_rng(5), shape, fused=False)
    for name, value in one.arrays().items():
        if name not in ("x", "x_norm"):
            np.testing.assert_allclose(value, getattr(two, name), rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(one.x_norm, two.x_norm, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net_one.delta, net_two.delta, rtol=1e-5, atol=1e-5)


def test_delta_stays_as_it_came(rng):
    l, net = _run(rng, (2, 3, 4, 5))
    d = l.delta.copy()
    dn.backward_batchnorm_layer(l, net)
    assert (l.delta == d).all()


def test_kept_x_norm_is_the_computed_one(rng):
    l, net = _run(rng, (2, 3, 4, 5))
    computed = l.x_norm
    assert not computed.flags.writeable
    l.keep_x_norm = True
    dn.forward_batchnorm_layer(l, net)
    assert l.x_norm.flags.writeable
    assert (l.x_norm == computed).all()


def test_x_is_the_input_itself(rng):
    l, net = _run(rng, (2, 3, 4, 5))
    assert l.x.__array_interface__["data"][0] == net.input.__array_interface__["data"][0]


def test_one_value_per_channel_cannot_train(rng):
    l = dn.make_batchnorm_layer(1, 1, 1, 3)
    net = dn.Network(train=True)
    net.input = np.ones((1, 3, 1, 1), np.float32)
    with pytest.raises(dn.ArgumentError, match="one value per channel"):
        dn.forward_batchnorm_layer(l, net)
    net.train = False
    dn.forward_batchnorm_layer(l, net)


def test_start_values():
    l = dn.make_batchnorm_layer(batch=64, w=28, h=28, c=32)
    assert l.output.shape == l.delta.shape == (64, 32, 28, 28)
    assert (l.scales == 1).all()
    for name in (
        "biases",
        "scale_updates",
        "bias_updates",
        "mean",
        "variance",
        "mean_delta",
        "variance_delta",
        "rolling_mean",
        "rolling_variance",
    ):
        assert getattr(l, name).shape == (32,) and (getattr(l, name) == 0).all(), name


@pytest.mark.parametrize("spatial", [(1, 1), (7, 7), (40, 40), (65, 64)])
def test_statistics_survive_a_large_mean_and_an_odd_first_value(spatial):
    """Sums in float32 would lose them: shifted by a first value far away, or not shifted at all."""
    rng = np.random.default_rng(3)
    for mean, first in ((1000, None), (0, 300), (1000, 0)):
        x = (mean + 1e-2 * rng.standard_normal((64, 3, *spatial))).astype(np.float32)
        if first is not None:
            x[0, :, 0, 0] = first
        layer, net = dn.make_batchnorm_layer(64, *spatial, 3), dn.Network(64, *spatial, 3, train=True)
        net.input = x
        dn.forward_batchnorm_layer(layer, net)
        exact = x.astype(np.float64)
        np.testing.assert_allclose(layer.mean, exact.mean(axis=(0, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(layer.variance, exact.var(axis=(0, 2, 3)), rtol=2e-6)
