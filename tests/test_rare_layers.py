"""The layers beyond the common ones in whole networks: training, files, checkpoints, other sizes, one thread or three."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import cfg_text

import darknetpy as dn

CONV = "convolutional filters=4 size=3 pad=1 activation=leaky"
SE = ["avgpool", "convolutional filters=4 size=1 activation=logistic"]
NETWORKS = {
    "deconvolutional": [CONV, "deconvolutional filters=3 size=2 stride=2 batch_normalize=1 activation=mish"],
    "reorg": [CONV, "reorg stride=2", "reorg stride=2 reverse=1"],
    "reorg extra": [CONV, "reorg extra=3", "connected output=2"],
    "reorg3d": [CONV, "reorg3d stride=2", "reorg3d stride=2 reverse=1"],
    "normalization": [CONV, "normalization alpha=.1 kappa=2"],
    "l2norm": [CONV, "l2norm"],
    "scale_channels": [CONV, *SE, "scale_channels from=-3 activation=mish"],
    "sam": [CONV, "convolutional filters=4 size=1 activation=logistic", "sam from=-2"],
    "implicit": [CONV, "implicit filters=4 mean=1", "scale_channels from=-2"],
    "empty": [CONV, "empty"],
    "shortcut": [CONV, CONV, "shortcut from=-2 weights_type=per_channel weights_normalization=softmax"],
    "antialiasing": [
        CONV + " antialiasing=1 stride=2 batch_normalize=1",
        "maxpool size=2 stride=2 antialiasing=2",
    ],
    "coordconv": [CONV + " coordconv=1", CONV],
    "maxpool_depth": [CONV, "maxpool maxpool_depth=1 out_channels=2"],
    "dropblock": [CONV, "dropout dropblock=1 dropblock_size_abs=2", "connected output=2"],
    "local": [CONV, "local filters=2 size=3 pad=1 activation=leaky"],
}
FIXED = ("local", "reorg extra", "dropblock")  # their parameters belong to one size of map


def load(path, layers, train=True, **how):
    path.write_text(cfg_text([*layers, "cost"], (3, 8, 8), 2, "max_batches=10 learning_rate=.01"))
    return dn.load_network(path, train=train, **how)


def trained(net, steps=3):
    rng = np.random.default_rng(7)
    for _ in range(steps):
        x = rng.standard_normal((2, net.inputs)).astype(np.float32)
        loss = net.train_batch(x, rng.standard_normal((2, net.truths)).astype(np.float32))
        assert np.isfinite(loss)
    return net


def parameters(net):
    return {
        (i, k): a.copy()
        for i, l in enumerate(net.layers)
        for k, a in l.arrays("parameter", "statistic").items()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_trained_files_and_threads(name, tmp_path, threads):
    results = []
    for count in (1, 3):
        threads(count)
        net = load(tmp_path / "a.cfg", NETWORKS[name])
        before = parameters(net)
        trained(net)
        after = parameters(net)
        results.append({key: array.tobytes() for key, array in after.items()})
        assert all((before[key] != array).any() for key, array in after.items()), "something did not learn"
    assert results[0] == results[1]
    net.save_weights(tmp_path / "a.weights")
    lean = dn.load_network(tmp_path / "a.cfg", tmp_path / "a.weights", batch=2)
    x = np.random.default_rng(3).standard_normal((2, net.inputs)).astype(np.float32)
    np.testing.assert_allclose(lean.predict(x), net.predict(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_cfg_round_trip(name, tmp_path):
    net = load(tmp_path / "a.cfg", NETWORKS[name])
    (tmp_path / "b.cfg").write_text(net.to_cfg())
    again = dn.load_network(tmp_path / "b.cfg", train=True)
    assert again.to_cfg() == net.to_cfg() and again.summary() == net.summary()
    assert [l.spec.values for l in again.layers] == [l.spec.values for l in net.layers]


@pytest.mark.parametrize("name", NETWORKS)
def test_checkpoint_goes_on_exactly(name, tmp_path):
    net = trained(load(tmp_path / "a.cfg", NETWORKS[name]))
    net.save_checkpoint(tmp_path / "a.ckpt")
    again = dn.load_checkpoint(tmp_path / "a.ckpt")
    ours, theirs = parameters(trained(net)), parameters(trained(again))
    assert all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)


@pytest.mark.parametrize("name", NETWORKS)
def test_resized_networks_give_what_new_ones_do(name, tmp_path):
    net = trained(load(tmp_path / "a.cfg", NETWORKS[name]))
    if name in FIXED:
        with pytest.raises(dn.ArgumentError, match="would change"):
            net.resize(12, 4)
        return
    net.resize(12, 4)
    net.save_weights(tmp_path / "a.weights")
    (tmp_path / "b.cfg").write_text(
        (tmp_path / "a.cfg").read_text().replace("height=8", "height=4").replace("width=8", "width=12")
    )
    fresh = dn.load_network(tmp_path / "b.cfg", tmp_path / "a.weights", train=True)
    x = np.random.default_rng(3).standard_normal((2, fresh.inputs)).astype(np.float32)
    assert (net.predict(x) == fresh.predict(x)).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fused_network_gives_the_same(name, tmp_path):
    net = load(tmp_path / "a.cfg", NETWORKS[name], train=False)
    for layer in net.layers:
        for key, array in layer.arrays("statistic").items():
            array[:] = 0.7 if key == "rolling_variance" else 0.1
    x = np.random.default_rng(3).standard_normal((1, net.inputs)).astype(np.float32)
    before = net.predict(x)
    net.fuse()
    assert not any("rolling_mean" in layer.arrays("statistic") for layer in net.layers)
    np.testing.assert_allclose(net.predict(x), before, rtol=1e-4, atol=1e-5)
