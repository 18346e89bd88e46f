"""Weight decay and dropout: what they do to a network, against closed forms, numpy and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import build, parameters, randomize

from darknetpy.core import core

LAYERS = [
    "convolutional filters=6 size=3 pad=1 activation=tanh batch_normalize=1 learning_rate=.5",
    "convolutional filters=4 size=1 activation=leaky",
    "avgpool",
    "connected output=7 activation=tanh batch_normalize=1 learning_rate=2",
    "connected output=5 activation=linear",
    "softmax",
]
RATES = {0: 0.5, 3: 2.0}  # of the layers that have their own
SHAPE, BATCH, STEPS, CHANGE = (3, 8, 8), 6, 20, 8  # step CHANGE (from 1) is the first with the rate times .3


def _network(options, rng):
    net = build(LAYERS, SHAPE, BATCH, f"policy=steps steps={CHANGE} scales=.3 {options}", core=core)
    randomize(net, rng)
    return net


def _batches(rng):
    for _ in range(STEPS):
        yield rng.standard_normal((BATCH, *SHAPE)).astype(np.float32), rng.integers(0, 5, BATCH)


# ---- L2: the gradient of decay / 2 |w|^2, of weights alone
def test_l2_is_pytorchs_weight_decay(rng):
    """Twenty steps, with momentum, rates of layers and a rate that changes: SGD with weight_decay = decay."""
    torch = pytest.importorskip("torch")
    rate, momentum, decay = 0.1, 0.9, 0.03
    net = _network(f"learning_rate={rate} momentum={momentum} decay={decay}", rng)
    model, groups = _torch_model(torch, net)
    optimizer = torch.optim.SGD(
        [
            {"params": [p], "lr": rate * RATES.get(i, 1), "weight_decay": decay if p.dim() > 1 else 0}
            for i, _, p in groups
        ],
        momentum=momentum,
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [CHANGE - 1], gamma=0.3)
    for x, labels in _batches(rng):
        net.train_batch(x, labels)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(labels)).backward()
        optimizer.step()
        schedule.step()
    for i, name, parameter in groups:
        ours, theirs = getattr(net.layers[i], name), parameter.detach().numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=f"layer {i} {name}")


def _torch_model(torch, net):
    """The same network with the same values, and (layer, array's name, parameter) of each."""
    nn, l = torch.nn, net.layers
    conv, point, hidden, last = (
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.Conv2d(6, 4, 1),
        nn.Linear(4, 7, bias=False),
        nn.Linear(7, 5),
    )
    norm, norm_hidden = nn.BatchNorm2d(6, eps=1e-5), nn.BatchNorm1d(7, eps=1e-5)
    groups = [
        (0, "weights", conv.weight),
        (0, "scales", norm.weight),
        (0, "biases", norm.bias),
        (1, "weights", point.weight),
        (1, "biases", point.bias),
        (3, "weights", hidden.weight),
        (3, "scales", norm_hidden.weight),
        (3, "biases", norm_hidden.bias),
        (4, "weights", last.weight),
        (4, "biases", last.bias),
    ]
    for i, name, parameter in groups:
        parameter.data = torch.from_numpy(getattr(l[i], name).copy())
    mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return (
        nn.Sequential(
            conv, norm, nn.Tanh(), point, nn.LeakyReLU(0.1), mean, hidden, norm_hidden, nn.Tanh(), last
        ),
        groups,
    )


def _regression(rng, options, steps=300):
    """Return x, t, w of a linear model after training on 40 rows: 1/m sum 1/2 |t - w x|^2 plus the penalty."""
    x, noise = rng.standard_normal((40, 6)).astype(np.float32), rng.standard_normal((40, 2))
    truth = (x[:, :2] * [1.0, -2.0] + 0.1 * noise).astype(np.float32)
    net = build(
        ["connected output=2 activation=linear", "cost"],
        (6,),
        40,
        f"policy=constant learning_rate=.2 max_batches={steps} {options}",
        core=core,
    )
    l = net.layers[0]
    for _ in range(steps):
        l.biases[:] = 0
        net.train_batch(x, truth)
    return x.astype(float), truth.astype(float), l.weights.astype(float)


def test_l2_ends_at_the_ridge_solution(rng):
    """Where the gradient of 1/m sum 1/2 |t - w x|^2 + decay/2 |w|^2 is zero."""
    x, t, w = _regression(rng, "decay=.25 momentum=.5")
    wanted = np.linalg.solve(x.T @ x / 40 + 0.25 * np.eye(6), x.T @ t / 40).T
    np.testing.assert_allclose(w, wanted, rtol=1e-4, atol=1e-5)


# ---- L1: lambda |w|, the proximal step after each step of SGD
@pytest.mark.parametrize("momentum", [0, 0.5])
def test_l1_ends_at_the_lasso_solution(momentum, rng):
    """Its optimality conditions: the gradient is -lambda sign(w), or within +-lambda where w is 0.

    lambda = decay_l1 (1 - momentum): momentum makes the gradient's share of a step 1 / (1 - momentum) times
    as large, and not the threshold.
    """
    x, t, w = _regression(rng, f"decay=0 decay_l1=.15 momentum={momentum}")
    lambda_ = 0.15 * (1 - momentum)
    gradient = (w @ x.T - t.T) @ x / 40
    zero = w == 0
    assert 5 <= zero.sum() <= 10
    np.testing.assert_allclose(gradient[~zero], -lambda_ * np.sign(w[~zero]), rtol=1e-4)
    assert (np.abs(gradient[zero]) < lambda_).all()


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_l1_is_a_proximal_step(momentum, rng):
    """Twenty steps in float64 on the network's own gradients; the same weights are exactly zero."""
    rate, decay, decay_l1 = 0.1, 0.02, 0.3
    net = _network(f"learning_rate={rate} momentum={momentum} decay={decay} decay_l1={decay_l1}", rng)
    wanted = {key: array.astype(float) for key, array, _ in parameters(net)}
    velocity = {key: np.zeros(w.shape) for key, w in wanted.items()}
    for step, (x, labels) in enumerate(_batches(rng), 1):
        kept = {key: updates.astype(float) for key, _, updates in parameters(net)}
        net.seen += BATCH
        net.forward(x, labels, train=True)
        net.backward()
        for key, _, updates in parameters(net):
            w, weights = wanted[key], key.endswith("weights")
            r = rate * (1 if step < CHANGE else 0.3) * RATES.get(int(key[0]), 1)
            v = velocity[key]
            v[:] = momentum * v + (updates - kept[key]) / BATCH - (decay * w if weights else 0)
            w += r * v
            if weights:
                w[:] = np.sign(w) * np.maximum(np.abs(w) - r * decay_l1, 0)
        net.update()
    zeros = 0
    for key, array, _ in parameters(net):
        np.testing.assert_allclose(array, wanted[key], rtol=1e-4, atol=1e-5, err_msg=key)
        if key.endswith("weights"):
            zeros += np.sum(array == 0)
            assert ((array == 0) == (wanted[key] == 0)).all(), key
    assert zeros > 20


# ---- dropout
def _dropout_masks(p, rng, passes=2):
    """Yield the factors of two [dropout] layers on the same 200 rows of 1000 values, pass by pass."""
    layers = [
        "activation activation=linear",
        f"dropout probability={p}",
        "route layers=0",
        f"dropout probability={p}",
    ]
    net = build(layers, (1000,), 200, core=core)
    x = rng.uniform(1, 2, (200, 1000)).astype(np.float32)
    for _ in range(passes):
        net.seen += 200
        net.forward(x, train=True)
        yield from (net.layers[i].output.reshape(x.shape).astype(float) / x for i in (1, 3))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_drops_that_share_and_keeps_the_mean(p, rng):
    """Within five standard deviations of 200,000 independent draws; kept values grow by 1 / (1 - p)."""
    for mask in _dropout_masks(p, rng):
        np.testing.assert_allclose(mask[mask != 0], 1 / (1 - p), rtol=1e-6)
        assert abs(np.mean(mask == 0) - p) <= 5 * np.sqrt(p * (1 - p) / mask.size)
        assert abs(np.mean(mask) - 1) <= 5 * np.sqrt(p / (1 - p) / mask.size)


def test_dropout_masks_are_independent(rng):
    """Of passes, layers, rows and neighbours: no correlation beyond five standard deviations."""
    masks = list(_dropout_masks(0.4, rng))
    pairs = [(a, b) for i, a in enumerate(masks) for b in masks[:i]]
    pairs += [(masks[0][1:], masks[0][:-1]), (masks[0][:, 1:], masks[0][:, :-1])]
    for a, b in pairs:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) <= 5 / np.sqrt(a.size)


def test_dropout_passes_the_delta_through_its_own_mask(rng):
    """Of the last forward pass; in inference nothing is dropped, forward or backward."""
    net = build(["dropout probability=.3"], (50,), 4, core=core)
    x, d = rng.uniform(1, 2, (4, 50)).astype(np.float32), rng.standard_normal((4, 50)).astype(np.float32)
    for train in (True, True, False):
        net.seen += 4
        net.forward(x, train=train)
        mask = net.layers[0].output.reshape(4, 50) / x
        net.layers[0].delta[:] = d.reshape(net.layers[0].delta.shape)
        net.delta = np.zeros_like(x)
        net.backward()
        np.testing.assert_allclose(net.delta, d * mask, rtol=1e-5)
        assert (mask == 0).any() == train
