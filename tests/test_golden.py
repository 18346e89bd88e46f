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


# What follows from wrong gradients of the layers named: everything that a step changes.
def _from(layers):
    return rf"(bwd|grad|after|after_t1|bn)/L({layers})/(delta|\w+_delta|\w+_updates|biases|weights|scales)|step2(_t1)?/.*|bwd/input_delta"


# What is wrong of the parts of a recurrent layer, and what a second step makes of it.
def _parts(parts, arrays=r"delta|\w+_delta|\w+_updates|biases|weights|scales"):
    return rf"(bwd|grad|after|after_t1|bn)/L\d\d\.({parts})/({arrays})|step2(_t1)?/.*|bwd/input_delta"


# (networks, arrays, reason): regular expressions for what Darknet has wrong.
SKIPPED = [
    (
        "ab-acts_conv|ab-acts_conv_bn|ab-acts_layer",
        r"(infer|train)/L30/output|(bn|grad|bwd|after|after_t1)/L(29|30)/.*",
        "relu6 is missing from AlexeyAB's CPU activate(): its output is 0, and so is its gradient",
    ),
    (
        "ab-acts_layer",
        r"(infer|train)/L3[68]/output|bwd/L3[5-8]/delta",
        "mish and swish are missing from AlexeyAB's [activation]: output 0",
    ),
    (
        "ab-acts_conv|ab-acts_conv_bn",
        r"(infer|train)/L(47|48)/.*|fused/.*|train/cost|bwd/L(47|48)/delta|step2_t1/.*|bwd/input_delta|(bwd|grad|after_t1)/L00/.*",
        "follow from relu6's zeros",
    ),
    (
        "ab-acts_layer",
        r"(infer|train)/L(39|40)/.*|train/cost|bwd/L(39|40)/delta|step2_t1/.*|bwd/input_delta|(bwd|grad|after_t1)/L00/.*",
        "follow from the zeros of relu6, mish and swish",
    ),
    (
        "ab-acts_conv|ab-acts_conv_bn|ab-acts_layer",
        r"bwd/L3[12]/delta|(bn|grad|after_t1)/L32/.*",
        "AlexeyAB takes gelu's derivative at its output",
    ),
    (
        "ab-acts_conv|ab-acts_conv_bn",
        r"bwd/L4[1-6]/delta|(bn|grad|after_t1)/L4[246]/.*",
        "AlexeyAB's gradients of normalize_channels* are not their derivatives",
    ),
    (
        "ab-.*",
        r"(grad|after|after_t1|step2|step2_t1)/L\d\d/(bias_updates|biases)",
        "AlexeyAB's CPU code never trains the biases of a normalized convolution",
    ),
    (
        "ab-(acts_conv_bn|conv_binary|conv_bn_leaky|conv_groups|lr_scale|detection|region|scale_channels|shortcut_mish|"
        "tiny_classifier|tiny_resnet|yolo_label_smooth|yolo_new_coords_mse|yolo_two_heads)",
        r"step2(_t1)?/.*",
        "follow from the biases that were not trained",
    ),
    (
        "ab-cost_l1",
        r"train/L01/.*|train/cost|" + _from("00|01"),
        "AlexeyAB does not know [cost] type=L1 and takes sse",
    ),
    ("..-crop_same", r"bwd/input_delta", "Darknet's [crop] hands no delta to its input"),
    (
        "ab-local_avgpool",
        _from("00"),
        "AlexeyAB's local_avgpool divides by the values inside the image forward, by size^2 backward",
    ),
    (
        "ab-shortcut(_channels|_mish|_multi)?|ab-tiny_resnet",
        _from("0[0-5]"),
        "AlexeyAB's convolution zeroes the delta that a shortcut had left at its input",
    ),
    (
        "..-lrn_odd",
        _from("00"),
        "Darknet's local response normalization hands back delta * norm^-beta, without the norm's derivative",
    ),
    ("pj-l2norm", _from("00"), "pjreddie's [l2norm] hands its delta on unchanged"),
    (
        "ab-scale_channels_wh",
        _from("00"),
        "AlexeyAB's convolution zeroes the delta that [scale_channels] had left at its input",
    ),
    (
        "ab-shortcut_w_per_channel_softmax",
        r"(grad|after_t1)/L03/.*",
        "AlexeyAB's gradient of shortcut weights ignores their normalization",
    ),
    (
        "ab-shortcut_w_per_channel_softmax",
        _from("0[01]"),
        "AlexeyAB's convolution zeroes the delta that a shortcut had left at its input",
    ),
    ("..-softmax_cost", _from("0[0-2]"), "a softmax followed by [cost] gets its delta twice in Darknet"),
    (
        "pj-batchnorm",
        r"bwd/L01/delta",
        "Darknet's [batchnorm] overwrites its delta; here it stays as it came",
    ),
    ("pj-batchnorm", r"(after|step2)/.*", "pjreddie's [batchnorm] has no update: it never trains"),
    (
        "pj-cost_smooth",
        r"train/L01/delta_fwd|" + _from("00|01"),
        "pjreddie's smooth-L1 delta has the wrong sign beyond 1",
    ),
    (
        "ab-lr_scale",
        r"(after_t1|step2_t1)/L01/.*",
        "AlexeyAB's connected layer ignores learning_rate on the CPU",
    ),
    ("pj-acts_conv_bn", r"(grad|after)/L00/bias_updates", "a sum that cancels to nothing: rounding alone"),
    (
        "pj-dropout_p0",
        r"bwd/L01/delta",
        "Darknet's dropout shares the array of the layer before, which goes on working in it",
    ),
    (
        "pj-route",
        _from("0[0-2]"),
        "pjreddie's 1x1 convolution overwrites the delta that a route had left at its input",
    ),
    ("pj-region_late", _from("0[01]"), "pjreddie's [region] hands no delta on, on the CPU"),
    (
        "ab-gaussian_yolo_giou",
        r"train/L02/(cost|delta_fwd)|train/cost|" + _from("0[0-2]"),
        "AlexeyAB's gradient of an IoU leaves out how the box follows from the input",
    ),
    ("ab-gaussian_yolo", _from("0[01]"), "AlexeyAB's [Gaussian_yolo] leaves out the logistic's derivative"),
    (
        "ab-yolo_iou",
        r"train/L02/delta_fwd|" + _from("0[0-2]"),
        "AlexeyAB's gradient of an IoU leaves out how the box follows from the input",
    ),
    (
        "pj-yolo_two_heads",
        _from("0[0-2]") + "|step2/.*",
        "pjreddie's 1x1 convolution overwrites the delta that a route had left at its input",
    ),
    (
        "ab-yolo_two_heads",
        _from("0[0-2]"),
        "AlexeyAB's convolution zeroes the delta that a route had left at its input",
    ),
    (
        "(pj|ab)-c?rnn(_bn|_shortcut)?",
        _parts("input_layer") + "|" + _from("00"),
        "Darknet's input_layer gets the delta of self_layer after the slope of its activation, not before",
    ),
    (
        "(pj|ab)-rnn(_shortcut)?|pj-lstm|ab-lstm_bn",
        r"bwd/L01/delta",
        "Darknet goes on working in the delta of its recurrent layers; here it stays as it came",
    ),
    (
        "pj-rnn_shortcut",
        _parts("self_layer") + "|" + _parts("output_layer", "weights|weight_updates"),
        "Darknet's backward pass takes for the state what it would be without shortcut",
    ),
    ("pj-crnn", r"after/L00\..*/(biases|weights)", "pjreddie's [crnn] never trains"),
    (
        "ab-crnn",
        _parts("self_layer"),
        "AlexeyAB's convolution zeroes the delta that the next step had sent to the state",
    ),
    (
        "(pj|ab)-crnn_bn",
        _parts("self_layer|output_layer"),
        "Darknet keeps one mean and variance for all time steps, the last one's, and takes them for each",
    ),
    (
        "ab-gru",
        _parts(r"(state|input)_[zrh]_layer") + "|" + _from("00"),
        "the backward pass of [gru] is empty on the CPU",
    ),
    (
        "pj-lstm",
        _parts("wf|uf") + "|" + _parts("w[igo]", "weights|weight_updates") + "|" + _from("00"),
        "Darknet's first time step takes its own state and cell for those before it",
    ),
    (
        "ab-lstm_bn",
        _parts("[wu][figo]") + "|" + _from("00"),
        "the same, and one mean and variance for all time steps",
    ),
    (
        "ab-conv_lstm(_peep)?",
        _parts("[wuv][figo]") + "|" + _from("00"),
        "AlexeyAB's conv_lstm sends the delta of state and cell to its input",
    ),
    (
        "ab-history",
        _from("00"),
        "AlexeyAB's [history] sends no delta to frames but the newest",
    ),
    (
        "ab-contrastive",
        r"train/L07/(cost|delta_fwd)|train/cost|" + _from("0[0-267]"),
        "AlexeyAB's delta of [contrastive] is the gradient of no loss, and its cost the sum of squares of that",
    ),
    (
        "pj-softmax_noloss",
        r"train/cost|" + _from("0[01]"),
        "without a loss Darknet's softmax hands its delta on unchanged, and its 0 counts in the mean cost",
    ),
    (
        "pj-softmax_smooth_truth",
        r"train/L02/(loss|cost)|train/cost|step2/cost",
        "Darknet's loss of soft labels is -log p wherever t is not 0, ours -t log p",
    ),
    (
        "pj-softmax_temp",
        r"train/L02/delta_fwd|" + _from("0[0-2]"),
        "Darknet's softmax delta lacks the factor 1 / temperature",
    ),
]


def skipped(name, key):
    return any(re.fullmatch(networks, name) and re.fullmatch(keys, key) for networks, keys, _ in SKIPPED)


def differences(recording, ours, tolerance=TOLERANCE):
    """Return a line per array that is farther from the recording than the tolerance, skipped ones left out."""
    lines = []
    for key, value in ours.items():
        if key not in recording or skipped(recording.name, key):
            continue
        wanted = np.asarray(recording[key], float).ravel()
        value = np.asarray(value, float).ravel()
        error, allowed = (
            np.max(np.abs(value - wanted), initial=0),
            tolerance * np.max(np.abs(wanted), initial=0) + 1e-7,
        )
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
    if infer in recording and not skipped(name, infer):
        lean = dn.load_network(
            "net.cfg", weights="net.weights", dialect=net.dialect, batchnorm="darknet", batch=net.batch
        )
        assert not differences(recording, {infer: lean.predict(_x(recording))})


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("ab-")])
def test_fused_inference(name, monkeypatch):
    """AlexeyAB's recordings have the output of the network after its normalizations were folded; an xnor one's bits too."""
    recording = Recording(name)
    (key,) = [key for key in recording if key.startswith("fused/")] or [None]
    if key is None or skipped(name, key):
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
            np.testing.assert_allclose(
                value, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max() + 1e-7, err_msg=argument
            )
