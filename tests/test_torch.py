"""PyTorch as one more witness: ten training steps of a normalized network, losses within 1e-5; errors of batch normalization."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from gradcheck import build, randomize

import darknetpy as dn
from darknetpy.core import core

torch = pytest.importorskip("torch")
LAYERS = [
    "convolutional filters=6 size=3 pad=1 activation=leaky batch_normalize=1",
    "maxpool size=2 stride=2 padding=0",
    "convolutional filters=8 size=3 stride=2 pad=1 groups=2 activation=mish batch_normalize=1",
    "convolutional filters=7 size=1 activation=swish",
    "avgpool",
    "connected output=5 activation=linear",
    "softmax",
]
BATCH, RATE, MOMENTUM, DECAY = 8, 0.05, 0.9, 5e-4


def _torch_twin(net):
    nn = torch.nn
    conv = [
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.Conv2d(6, 8, 3, 2, 1, groups=2, bias=False),
        nn.Conv2d(8, 7, 1),
    ]
    norm, linear = (
        [nn.BatchNorm2d(6, eps=1e-5, momentum=0.01), nn.BatchNorm2d(8, eps=1e-5, momentum=0.01)],
        nn.Linear(7, 5),
    )
    pairs = []
    for i, module in ((0, conv[0]), (2, conv[1]), (3, conv[2]), (5, linear)):
        pairs.append((module.weight, net.layers[i].weights))
        if module.bias is not None:
            pairs.append((module.bias, net.layers[i].biases))
    for i, module in ((0, norm[0]), (2, norm[1])):
        pairs += [(module.weight, net.layers[i].scales), (module.bias, net.layers[i].biases)]
    for parameter, array in pairs:
        parameter.data = torch.from_numpy(array.copy())
    for i, module in ((0, norm[0]), (2, norm[1])):
        module.running_mean.data, module.running_var.data = (
            torch.from_numpy(a.copy()) for a in (net.layers[i].rolling_mean, net.layers[i].rolling_variance)
        )
    return nn.Sequential(
        conv[0],
        norm[0],
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        conv[1],
        norm[1],
        nn.Mish(),
        conv[2],
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        linear,
    )


def test_ten_steps(rng):
    net = build(
        LAYERS,
        (3, 12, 12),
        BATCH,
        f"learning_rate={RATE} momentum={MOMENTUM} decay={DECAY} policy=constant",
        core=core,
    )
    randomize(net, rng)
    model = _torch_twin(net)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    optimizer = torch.optim.SGD(
        [
            {"params": decayed, "weight_decay": DECAY},
            {"params": [p for p in model.parameters() if p.dim() == 1]},
        ],
        lr=RATE,
        momentum=MOMENTUM,
    )
    x, y = rng.standard_normal((BATCH, 3, 12, 12)).astype(np.float32), rng.integers(0, 5, BATCH)
    ours, theirs = [], []
    for _ in range(10):
        ours.append(net.train_batch(x, y))
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        theirs.append(float(loss.detach()))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(net.layers[2].rolling_variance, model[5].running_var.numpy(), rtol=1e-4)
    model.eval()
    wanted = torch.softmax(model(torch.from_numpy(x)), 1).detach().numpy()
    np.testing.assert_allclose(net.predict(x).reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-5)


# ---- whose float32 is nearer to float64
def _ours(x, scales, biases, delta):
    batch, c, h, w = x.shape
    l, net = dn.make_batchnorm_layer(batch, w, h, c), dn.Network(train=True)
    l.scales[:], l.biases[:], net.input = scales, biases, x
    dn.forward_batchnorm_layer(l, net)
    l.delta[:] = delta
    dn.backward_batchnorm_layer(l, net)
    names = ("output", "mean", "variance", "scale_updates", "bias_updates")
    return {**{name: np.array(getattr(l, name)) for name in names}, "dx": net.delta}


def _theirs(x, scales, biases, delta):
    x, scales, biases, delta = (torch.from_numpy(a) for a in (x, scales, biases, delta))
    y, mean, inverse = torch.native_batch_norm(x, scales, biases, None, None, True, 0.01, 1e-5)
    dx, d_scales, d_biases = torch.ops.aten.native_batch_norm_backward(
        delta, x, scales, None, None, mean, inverse, True, 1e-5, [True, True, True]
    )
    found = {
        "output": y,
        "mean": mean,
        "variance": inverse,
        "scale_updates": d_scales,
        "bias_updates": d_biases,
        "dx": dx,
    }
    found = {name: value.double().numpy() for name, value in found.items()}
    return {**found, "variance": found["variance"] ** -2 - 1e-5}


@pytest.mark.parametrize("mean, deviation", [(0, 1), (0, 1e-2), (3, 1), (1000, 1e-2)])
@pytest.mark.parametrize("shape", [(8, 16, 28, 28), (32, 64, 1, 1), (16, 8, 7, 7)], ids=str)
def test_errors_are_no_larger_than_pytorchs(shape, mean, deviation, rng):
    """Error: the largest, relative to the array's largest value.  Both round, so theirs is allowed two of float32's steps more."""
    x = (mean + deviation * rng.standard_normal(shape)).astype(np.float32)
    scales, biases = (
        rng.uniform(0.5, 1.5, shape[1]).astype(np.float32),
        rng.standard_normal(shape[1], np.float32),
    )
    delta = rng.standard_normal(shape, np.float32)
    wanted = reference.batchnorm_layer(*(a.astype(float) for a in (x, scales, biases, delta)))
    ours, theirs = _ours(x, scales, biases, delta), _theirs(x, scales, biases, delta)
    for name in ours:
        error, allowed = (
            np.max(np.abs(found[name].reshape(wanted[name].shape) - wanted[name]))
            / np.max(np.abs(wanted[name]))
            for found in (ours, theirs)
        )
        assert error <= 1.05 * allowed + 2.4e-7, name
