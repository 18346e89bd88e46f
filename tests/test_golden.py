"""Against recordings of real Darknet, pjreddie's f6afaab and AlexeyAB's 59596d7, on the CPU in float32.

tests/golden/micro has small networks with all arrays of an inference, a training step and a second one; _kernels single functions;
tests/golden/traj learning rates and a training of 50 iterations.  Arrays in which Darknet is wrong are skipped one by one, by name
and with the reason; that ours are right is proven by the gradient checks.

Recorded and not here: the image functions, which are in images.npz (test_image_kernels.py), and whole networks (test_zoo.py), those of
Debian's package; these run beside its program, too (test_side_by_side.py).
"""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest
from golden_reasons import SKIPPED, skipped, why_not

import darknetpy as dn

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
MICRO = os.path.join(GOLDEN, "micro")
DIALECTS = {"pj": "pjreddie", "ab": "alexeyab"}
TOLERANCE, SECOND_STEP = 1e-5, 1e-4  # of an array's largest value; two honest float32 programs differ by 3e-6


class Recording(dict):
    """The arrays of one folder; those equal bit for bit are stored once."""

    def __init__(self, name):
        folder = os.path.join(MICRO, name)
        with np.load(os.path.join(folder, "ref.npz")) as file:
            super().__init__({key: file[key] for key in file.files})
        with open(os.path.join(folder, "meta.json")) as file:
            self.meta = json.load(file)
        self.folder, self.fork, self.name = folder, name[:2], name
        for key, source in self.meta.get("aliases", {}).items():
            self[key] = self[source]

    def load(self, monkeypatch):
        """The network, with the recording's start values, run by the fork's rules."""
        monkeypatch.chdir(self.folder)
        return dn.load_network(
            "net.cfg",
            weights="net.weights",
            dialect=DIALECTS[self.fork],
            batchnorm="darknet",
            batch=self.meta["batch"],
            train=True,
        )


NAMES = sorted(name for name in os.listdir(MICRO) if not name.endswith("_kernels"))
compared = {}  # {(recording, key): largest relative difference}, for the summary at the end of the run


def not_compared():
    """Return {(recording, key): reason} of the other arrays of the recordings that were compared."""
    recordings = map(Recording, sorted({name for name, _ in compared} & set(NAMES)))
    keys = [(recording, key) for recording in recordings for key in recording if (recording.name, key) not in compared]
    return {(recording.name, key): why_not(recording, key) for recording, key in keys}


def _note(name, key, error, wanted):
    """Keep a difference, as far as it is beyond what is allowed to zeros, for the summary."""
    share = max(error - 1e-7, 0) / np.max(np.abs(wanted), initial=1e-30)
    compared[name, key] = max(compared.get((name, key), 0), float(share))


def differences(recording, ours, tolerance=TOLERANCE):
    """Return a line per array that is farther from the recording than the tolerance, skipped ones left out."""
    lines = []
    for key, value in ours.items():
        if key not in recording or skipped(recording, key):
            continue
        wanted = np.asarray(recording[key], float).ravel()
        value = np.asarray(value, float).ravel()
        error, allowed = (
            np.max(np.abs(value - wanted), initial=0),
            tolerance * np.max(np.abs(wanted), initial=0) + 1e-7,
        )
        _note(recording.name, key, error, wanted)
        if not error <= allowed:
            lines.append(f"{key}: differs by {error:.2e}, allowed {allowed:.2e}")
    return lines


GRU_NAMES = {"u": "input", "w": "state"}  # AlexeyAB's names for the parts of [gru]


def _key(prefix, fork, layer, name):
    """The name of an array in a recording."""
    part, _, own = name.rpartition(".")
    if part and layer.type == "gru" and fork == "alexeyab":
        part = f"{GRU_NAMES[part[0]]}_{part[1]}_layer"
    return f"{prefix}/L{layer.index:02}{'.' * bool(part)}{part}/{own}"


def _layer_arrays(net, prefix, *roles):
    found = {
        _key(prefix, net.dialect, layer, name): array.copy()
        for layer in net.layers
        for name, array in layer.arrays(*roles).items()
    }
    # Of the time steps of a part the one that ran last was recorded: the first one of the backward pass.
    for key, array in found.items():
        if re.search(r"L\d\d\..*/(mean|variance)(_delta)?$", key):
            found[key] = array[0 if key.endswith("_delta") else -1] if array.ndim == 2 else array
    return found


def _x(recording):
    return np.ascontiguousarray(recording["input"], np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_start_values(name, monkeypatch):
    recording = Recording(name)
    net = recording.load(monkeypatch)
    assert not differences(recording, _layer_arrays(net, "init", "parameter", "statistic"), 0)


@pytest.mark.parametrize("name", NAMES)
def test_inference(name, monkeypatch):
    recording = Recording(name)
    net = recording.load(monkeypatch)
    net.forward(_x(recording), train=False)
    assert not differences(recording, _layer_arrays(net, "infer", "activation"))
    if any(key.startswith("infer2/") for key in recording):  # on from the state that the first pass left
        net.forward(_x(recording), train=False)
        assert not differences(recording, _layer_arrays(net, "infer2", "activation"))
    last = net._output_layer()
    infer = f"infer/L{last.index:02}/output"
    if infer in recording and not skipped(recording, infer):
        lean = dn.load_network(
            "net.cfg", weights="net.weights", dialect=net.dialect, batchnorm="darknet", batch=net.batch
        )
        assert not differences(recording, {infer: lean.predict(_x(recording))})


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("ab-")])
def test_fused_inference(name, monkeypatch):
    """AlexeyAB's recordings have the output of the network after its normalizations were folded; an xnor one's bits too."""
    recording = Recording(name)
    (key,) = [key for key in recording if key.startswith("fused/")] or [None]
    if key is None or skipped(recording, key):
        pytest.skip("no fused output was recorded, or what was is wrong")
    monkeypatch.chdir(recording.folder)
    net = dn.load_network("net.cfg", "net.weights", batch=recording.meta["batch"], dialect="alexeyab")
    if not key.startswith(f"fused/L{net._output_layer().index:02}/"):
        pytest.skip("recorded is the output of a [contrastive] at the end, all zeros; predict reads the layer before it")
    plain = net.predict(_x(recording))
    assert not differences(recording, {key: plain})
    assert not differences(recording, {key: net.fuse().predict(_x(recording))})


def _step(net, recording):
    """Forward and backward as train_network_datum does; return everything that was recorded of it."""
    net.seen += net.batch
    net.forward(_x(recording), np.ascontiguousarray(recording["truth"], np.float32), train=True)
    ours = _layer_arrays(net, "train", "activation")
    for i, layer in enumerate(net.layers):
        if layer._info.has_cost:
            ours.update({f"train/L{i:02}/cost": layer.cost, f"train/L{i:02}/delta_fwd": layer.delta.copy()})
            if layer.type != "cost":
                ours[f"train/L{i:02}/loss"] = layer.loss.copy()
    ours["train/cost"] = net._core.lib.network_cost(net._handle)
    ours.update(_layer_arrays(net, "bn", "activation", "statistic"))
    net.backward()
    ours["bwd/input_delta"] = net.delta.copy()
    for key, value in _layer_arrays(net, "bwd", "activation").items():
        if key.endswith("/delta"):
            ours[key] = value
        elif key.endswith("_delta"):
            ours[key.replace("bwd/", "bn/", 1)] = value
    ours.update(_layer_arrays(net, "grad", "update"))
    return ours


@pytest.mark.parametrize("name", NAMES)
def test_training(name, monkeypatch):
    recording = Recording(name)
    if not recording.meta["has_train"]:
        pytest.skip("no training was recorded")
    net = recording.load(monkeypatch)
    net.seen = recording.meta["seen_before"]
    wrong = differences(recording, _step(net, recording))
    net.update()
    one, two = (
        ("after_t1", "step2_t1")
        if any(key.startswith("after_t1") for key in recording)
        else ("after", "step2")
    )
    wrong += differences(recording, _layer_arrays(net, one, "parameter", "statistic", "update"))
    second = _step(net, recording)
    net.update()
    wrong += differences(
        recording,
        {f"{two}/cost": second["train/cost"], **_layer_arrays(net, two, "parameter", "statistic", "update")},
        SECOND_STEP,
    )
    assert not wrong, "\n".join(wrong)


def test_skips_are_needed():
    """Every row of SKIPPED names arrays that are there."""
    keys = {name: list(Recording(name)) for name in NAMES}
    for networks, arrays, _ in SKIPPED:
        assert any(
            re.fullmatch(networks, name) and re.fullmatch(arrays, key) for name in NAMES for key in keys[name]
        ), (networks, arrays)


# ---- learning rates
def _policies():
    for fork in DIALECTS:
        with open(os.path.join(GOLDEN, "traj", f"policies-{fork}.json")) as file:
            for name, recorded in json.load(file).items():
                yield pytest.param(fork, recorded, id=f"{fork} {name}")


@pytest.mark.parametrize("fork, recorded", list(_policies()))
def test_learning_rate(fork, recorded, tmp_path):
    options = recorded["net_options"]
    if "policy=nosuch" in options:
        pytest.skip("Darknet takes an unknown policy as constant; here it is an error")
    if "policy=random" in options:
        pytest.skip("Darknet draws from the C library's rand()")
    if fork == "pj" and "policy=sigmoid" in options:
        pytest.skip("pjreddie's batch number is unsigned: below `step` its difference wraps round")
    path = tmp_path / "policy.cfg"
    path.write_text(f"[net]\n{options}inputs=4\n[connected]\noutput=2\n[softmax]\n")
    net = dn.load_network(path, dialect=DIALECTS[fork], train=True)
    rates = []
    for batch in range(len(recorded["rate_by_batch_number"])):
        net.seen = batch * 8
        rates.append(net.learning_rate)
    np.testing.assert_allclose(rates, recorded["rate_by_batch_number"], rtol=1e-6, atol=1e-12)


# ---- 50 iterations
def test_trajectory():
    """Losses of 50 iterations of a normalized network under steps with burn-in; later iterations inherit rounding."""
    folder = os.path.join(GOLDEN, "traj", "pj")
    with np.load(os.path.join(folder, "ref.npz")) as file:
        recorded = {key: file[key] for key in file.files}
    net = dn.load_network(
        os.path.join(folder, "net.cfg"),
        weights=os.path.join(folder, "init.weights"),
        dialect="pjreddie",
        batchnorm="darknet",
        train=True,
    )
    images, labels = recorded["images"].reshape(-1, net.inputs), recorded["labels"].ravel()
    losses, rates = [], []
    for i in range(50):
        for half in (0, 1):
            rows = np.arange((2 * i + half) * net.batch, (2 * i + half + 1) * net.batch) % len(images)
            losses.append(
                net.train_batch((images[rows] / np.float32(255)).astype(np.float32), labels[rows].astype(int))
                * net.batch
            )
        rates.append(net.learning_rate)
        if f"it{i + 1:02}/L00/weights" in recorded and i < 5:
            wrong = [
                (key, np.max(np.abs(array - recorded[key].reshape(array.shape))))
                for key, array in _layer_arrays(net, f"it{i + 1:02}", "parameter", "statistic").items()
            ]
            assert max(error for _, error in wrong) < 1e-4, wrong
    with open(os.path.join(folder, "meta.json")) as file:
        spread = np.array(
            json.load(file)["native_build_max_abs_loss_diff_by_iteration"]
        )  # of two builds of Darknet
    error = np.abs(np.reshape(losses, (50, 2)) - recorded["loss"]).max(axis=1)
    assert (error <= 10 * np.maximum.accumulate(spread) + 1e-5 * recorded["loss"].max()).all(), error
    np.testing.assert_allclose(rates, recorded["learning_rate"], rtol=1e-6)
    probabilities = net.predict((images / np.float32(255)).astype(np.float32)).reshape(64, 4)
    assert (probabilities.argmax(axis=1) == recorded["final_probabilities"].argmax(axis=1)).all()


# ---- single functions
RECORDED_KERNELS = (
    "mean_cpu",
    "variance_cpu",
    "normalize_delta_cpu",
    "scale_bias",
    "add_bias",
    "backward_bias",
    "backward_scale_cpu",
    "mean_delta_cpu",
    "variance_delta_cpu",
    "im2col_cpu",
    "col2im_cpu",
    "gemm",
    "softmax_cpu",
    "softmax_x_ent_cpu",
    "logistic_x_ent_cpu",
    "l2_cpu",
    "l1_cpu",
    "smooth_l1_cpu",
    "shortcut_cpu",
    "axpy_cpu",
    "activate_array",
    "gradient_array",
    "upsample_cpu",
    "reorg_cpu",
    "mult_add_into_cpu",
    "weighted_sum_cpu",
    "weighted_delta_cpu",
    "constrain_cpu",
)


def _recorded_calls():
    for fork in DIALECTS:
        with open(os.path.join(MICRO, f"{fork}-_kernels", "meta.json")) as file:
            for name, call in json.load(file)["kernels"].items():
                if call["function"] in RECORDED_KERNELS:
                    yield pytest.param(fork, name, call, id=f"{fork} {name}")


# Where Darknet's function is wrong or lacks the name; (fork, call): reason.
WRONG_CALLS = {
    ("pj", "smooth_l1_cpu/a"): "the sign of the delta beyond 1 is inverted",
    (
        "ab",
        "normalize_delta_cpu/b",
    ): "AlexeyAB divides by sqrt(variance) + 1e-5 here; batchnorm=darknet does so too (test_training)",
    ("ab", "activate_array/relu6"): "relu6 is missing from AlexeyAB's CPU activate(): 0 everywhere",
}


@pytest.mark.parametrize("fork, name, call", list(_recorded_calls()))
def test_recorded_kernel(fork, name, call):
    if (fork, name) in WRONG_CALLS:
        pytest.skip(WRONG_CALLS[fork, name])
    recording, values = Recording(f"{fork}-_kernels"), []
    for argument in call["argument_order"]:
        if f"{name}/in/{argument}" in recording:
            values.append(np.array(recording[f"{name}/in/{argument}"], np.float32).ravel())
        else:
            values.append(call["scalars"][argument] if argument != "a" else name.split("/")[1])
    if call["function"] == "shortcut_cpu" and fork == "ab":
        values[-1:-1] = [1, 1]  # AlexeyAB's has no factors
    getattr(dn.kernels, call["function"])(*values)
    names = (
        call["argument_order"]
        if len(values) == len(call["argument_order"])
        else [*call["argument_order"][:-1], "s1", "s2", "out"]
    )
    for argument, value in zip(names, values):
        key = f"{name}/out/{argument}"
        if isinstance(value, np.ndarray):
            wanted = np.asarray(
                recording[key if key in recording else f"{name}/in/{argument}"], float
            ).ravel()
            error = np.abs(value - wanted).max()
            _note(f"{fork}-_kernels", f"function/{name}/{argument}", error, wanted)
            assert error <= 1e-5 * np.abs(wanted).max() + 1e-7, argument
