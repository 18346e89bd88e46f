"""[convolutional]: forward against float64, every gradient.  Loss of the gradient checks: random weights times the output."""

from __future__ import annotations

import numpy as np
import pytest
from activations import ACTIVATIONS
from gradcheck import SCALES, Case, check

import darknetpy as dn

# What changes the arithmetic of the convolution itself.
SHAPES = {
    "1x1": ("filters=3", (4, 3, 3)),
    "1x1 strided": ("filters=3 stride=2", (2, 5, 4)),
    "1x1 padded": ("filters=2 padding=1", (2, 3, 2)),
    "3x3": ("filters=3 size=3", (2, 5, 4)),
    "3x3 pad": ("filters=3 size=3 pad=1", (2, 4, 5)),
    "3x3 pad stride 2": ("filters=3 size=3 stride=2 pad=1", (2, 5, 5)),
    "3x3 stride 3": ("filters=2 size=3 stride=3 pad=1", (2, 7, 5)),
    "2x2": ("filters=3 size=2 stride=2", (2, 5, 5)),
    "4x4 padding 3": ("filters=2 size=4 padding=3", (2, 2, 3)),
    "5x5 on 2x2": ("filters=2 size=5 pad=1", (2, 2, 2)),
    "stride beyond size": ("filters=2 size=2 stride=3", (2, 6, 5)),
    "stride_x": ("filters=2 size=3 stride_x=2 stride_y=1 pad=1", (2, 4, 5)),
    "stride_y": ("filters=2 size=3 stride_x=1 stride_y=3 pad=1", (2, 5, 4)),
    "groups": ("filters=4 size=3 groups=2 pad=1", (4, 3, 4)),
    "groups strided": ("filters=6 size=3 groups=3 stride=2 pad=1", (3, 5, 4)),
    "depthwise": ("filters=4 size=3 groups=4 pad=1", (4, 4, 3)),
    "depthwise strided": ("filters=4 size=3 groups=4 stride=2 pad=1", (4, 5, 5)),
    "depthwise doubled": ("filters=4 size=3 groups=2 pad=1", (2, 4, 3)),
    "dilation": ("filters=2 size=3 dilation=2 pad=1", (2, 5, 6)),
    "dilation strided": ("filters=2 size=3 dilation=2 stride=2 pad=1", (2, 7, 6)),
    "dilation 3 stride 2 groups": ("filters=4 size=3 dilation=3 stride=2 groups=2 pad=1", (2, 6, 7)),
    "1x1 map": ("filters=3 size=3 pad=1", (2, 1, 1)),
    "many filters": ("filters=33 size=1", (2, 2, 2)),
    "many channels": ("filters=2 size=3 pad=1", (35, 2, 2)),
    "wide": ("filters=2 size=3 pad=1", (1, 2, 37)),
}
NORMALIZATIONS = {"bias": "", "bn": " batch_normalize=1"}


def _shape_cases():
    for name, (options, shape) in SHAPES.items():
        for norm, extra in NORMALIZATIONS.items():
            yield Case(f"conv {name} {norm}", [f"convolutional {options} activation=linear{extra}"], shape)
    yield Case("conv batch 1", ["convolutional filters=2 size=3 pad=1 activation=linear"], (2, 3, 4), batch=1)
    yield Case(
        "conv batch 1 bn",
        ["convolutional filters=2 size=3 pad=1 activation=linear batch_normalize=1"],
        (2, 3, 4),
        batch=1,
    )


def _statistics_cases():
    layer = "convolutional filters=3 size=2 activation=swish batch_normalize=1 statistics="
    for statistics in ("cumulative", "last", "frozen"):
        for way, net in (("fused", ""), ("composed", "fused=0")):
            yield Case(f"conv bn {statistics} {way}", [layer + statistics], (2, 3, 3), net=net)
            after = layer + f"{statistics} normalize_after_activation=1"
            yield Case(f"conv bn {statistics} after the activation {way}", [after], (2, 3, 3), net=net)
    connected = "connected output=3 activation=tanh batch_normalize=1"
    frozen = [layer + "frozen", "maxpool size=2 stride=1", connected]
    yield Case("conv frozen below learning layers", frozen, (2, 4, 4), batch=3)


def _winograd_cases():
    """Tiles at every edge, more filters and channels than a vector has lanes, the statistics on the way."""
    for name, options, shape in (
        ("3x3", "filters=3 size=3 pad=1", (2, 6, 5)),
        ("bare", "filters=3 size=3", (5, 3, 7)),
        ("padding 2", "filters=2 size=3 padding=2", (2, 3, 4)),
        ("by two", "filters=16 size=3 pad=1 stride=2", (16, 5, 6)),
    ):
        for norm, extra in NORMALIZATIONS.items():
            layers = [f"convolutional {options} activation=leaky{extra}"]
            yield Case(f"winograd {name} {norm}", layers, shape, net="convolution=winograd4")
    layers = ["convolutional filters=2 size=3 pad=1 activation=tanh"] * 2
    layers = [*layers, "route layers=0", layers[0], "route layers=1,0,-1"]
    yield Case("winograd keeps the delta of others", layers, (2, 4, 5), net="convolution=winograd4")


def _activation_cases():
    for a in ACTIVATIONS:
        layer, shape = f"convolutional filters=3 size=2 activation={a}", (2, 3, 3)
        yield Case(f"conv {a}", [layer], shape)
        for way, net in (("fused", ""), ("composed", "fused=0")):
            yield Case(f"conv bn {a} {way}", [layer + " batch_normalize=1"], shape, net=net)
            yield Case(
                f"conv bn {a} {way} inference", [layer + " batch_normalize=1"], shape, net=net, train=False
            )


GRADIENT_CASES = [
    *_shape_cases(),
    *_statistics_cases(),
    *_winograd_cases(),
    *_activation_cases(),
    Case(
        "conv keeps the delta of others",
        [
            "convolutional filters=2 size=3 pad=1 activation=tanh",
            "convolutional filters=2 size=3 pad=1 activation=tanh",
            "route layers=0",
            "convolutional filters=2 size=1 activation=tanh",
            "route layers=0",
            "convolutional filters=2 size=3 stride=2 pad=1 activation=tanh batch_normalize=1",
            "route layers=0",
            "convolutional filters=4 size=3 groups=2 pad=1 activation=tanh",
            "route layers=1,3,0,-1",
        ],
        (2, 4, 5),
    ),
]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


@pytest.mark.parametrize("train", [False, True])
def test_net_chooses_the_algorithm(train, tmp_path):
    """[net] convolution= reaches layers and the parts of recurrent ones; 6x6 tiles are for networks that never train."""
    x, outputs = np.random.default_rng(0).standard_normal((2, 16, 20, 20)).astype(np.float32), {}
    for word in ("auto", "gemm", "winograd4", "winograd6"):
        path = tmp_path / f"{word}.cfg"
        path.write_text(
            f"[net]\nbatch=2\nwidth=20\nheight=20\nchannels=16\nconvolution={word}\n"
            "[convolutional]\nfilters=24\nsize=3\npad=1\n[crnn]\noutput=16\nhidden=16\nsize=3\npad=1\n"
        )
        net = dn.load_network(path, batch=2, train=train)
        assert {layer.option("convolution") for layer in net.layers} == {len(outputs)}
        net.forward(x)
        outputs[word] = [layer.output.copy() for layer in net.layers]
    same = {
        (a, b): [np.array_equal(*pair) for pair in zip(outputs[a], outputs[b])]
        for a, b in (("auto", "winograd4"), ("gemm", "winograd4"), ("winograd4", "winograd6"))
    }
    assert same["auto", "winograd4"] == [True] * 2 and same["gemm", "winograd4"] == [False] * 2
    assert same["winograd4", "winograd6"] == [train] * 2
    for a in outputs.values():
        np.testing.assert_allclose(a[0], outputs["gemm"][0], atol=2e-5)


def test_unknown_algorithm():
    with pytest.raises(dn.ArgumentError, match="convolution='fft': wanted one of auto, gemm, winograd4, winograd6"):
        dn.make_convolutional_layer(1, 4, 4, 2, 2, size=3, convolution="fft")
