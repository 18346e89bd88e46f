"""The tables at the end of `make gradcheck` and `make golden`."""

from __future__ import annotations

import pytest
from figures import golden_lines, gradcheck_lines, kind_of
from gradcheck import Case, _by_type, prepared


def test_gradient_errors_by_type():
    results = [("one", 1.0, {"connected": 1e-9, "cost": 2e-9}), ("two", 0.01, {"connected": 3e-7})]
    lines, total = gradcheck_lines(results, 1e-7)
    assert [line.split(None, 3) for line in lines[1:]] == [
        ["connected", "2", "3.0e-07", "two, scale 0.01"],
        ["cost", "1", "2.0e-09", "one, scale 1"],
    ]
    assert total.endswith("2 cases, largest relative error 3.0e-07 (two, scale 0.01), 1 above 1e-07")


def test_errors_belong_to_the_layer_of_the_parameter():
    net = prepared(
        Case("two", ["connected output=3", "rnn output=2 hidden=2", "connected output=2"], (4,)), 1.0
    )
    errors = {"input": 2e-9, "0.weights": 1e-9, "2.biases": 5e-9, "1.self_layer.weights": 3e-9}
    assert _by_type(net, errors) == {"connected": 5e-9, "rnn": 3e-9}


@pytest.mark.parametrize(
    "key, kind",
    [
        ("infer/L00/output", "output"),
        ("train/L02/indexes", "output"),
        ("bwd/input_delta", "delta"),
        ("bn/L00/variance_delta", "delta"),
        ("bn/L00/variance", "statistics"),
        ("after/L00.wf/rolling_mean", "statistics"),
        ("grad/L00/scale_updates", "updates"),
        ("after/L00/weights", "updated weights"),
        ("step2/cost", "loss"),
        ("init/L00/rolling_mean", "start values"),
        ("boxes/raw", "boxes"),
        ("truth", "given"),
        ("function/gemm/a/c", "function"),
    ],
)
def test_kinds_of_recorded_arrays(key, kind):
    assert kind_of(key) == kind


def test_agreement_with_recordings():
    compared = {
        ("ab-x", "infer/L00/output"): 1e-7,
        ("pj-y", "infer/L01/output"): 3e-6,
        ("pj-y", "step2/cost"): 0.0,
    }
    not_compared = {("ab-x", "bwd/L00/delta"): "wrong there", ("pj-y", "bwd/L00/delta"): "wrong there"}
    lines, total = golden_lines(compared, not_compared)
    rows = {line[:16].strip(): line[16:].split() for line in lines}
    assert rows["output"] == ["2", "3.0e-06", "pj-y", "infer/L01/output", "0"]
    assert rows["loss"] == ["1", "0.0e+00", "pj-y", "step2/cost", "0"] and rows["delta"] == ["0", "2"]
    assert lines[-1] == "    2  wrong there (ab-x, pj-y)"
    assert total == "recordings: 3 arrays compared, largest relative difference 3.0e-06, 2 not compared"
