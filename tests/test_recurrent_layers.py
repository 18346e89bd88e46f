"""[rnn], [gru], [lstm], [crnn], [conv_lstm], [history]: gradients through time, and the state.

Loss of the gradient checks: random weights times the output of every time step.
"""

from __future__ import annotations

import pytest
from gradcheck import SCALES, Case, check

STEPS = "time_steps=3"
# Two sequences of three steps; five of two where a mini-batch's statistics normalize: two values would
# become a sign.
PLAIN = {
    "rnn": ("rnn output=3 hidden=2 activation=tanh", (4,)),
    "rnn logistic": ("rnn output=2 hidden=3 activation=tanh logistic=1", (3,)),
    "rnn loggy": ("rnn output=2 hidden=3 activation=logistic logistic=2", (3,)),
    "rnn shortcut": ("rnn output=2 hidden=3 activation=tanh shortcut=1", (3,)),
    "rnn of an image": ("rnn output=2 hidden=2 activation=swish", (2, 2, 1)),
    "gru": ("gru output=3", (4,)),
    "gru tanh": ("gru output=3 tanh=1", (4,)),
    "lstm": ("lstm output=3", (4,)),
    "crnn": ("crnn output=2 hidden=2 pad=1 activation=tanh", (2, 3, 2)),
    "crnn shortcut": ("crnn output=1 hidden=2 pad=1 activation=logistic shortcut=1", (1, 2, 3)),
    "crnn stride": ("crnn output=1 hidden=2 pad=1 stride=2 activation=tanh", (1, 4, 3)),
    "crnn groups": ("crnn output=2 hidden=4 size=1 groups=2 activation=tanh", (2, 2, 2)),
    "conv_lstm": ("conv_lstm output=2 pad=1", (1, 2, 3)),
    "conv_lstm peephole": ("conv_lstm output=2 pad=1 peephole=1 activation=tanh", (1, 2, 2)),
    "conv_lstm stride": ("conv_lstm output=1 pad=1 stride=2 peephole=1", (2, 4, 3)),
    "conv_lstm bottleneck": ("conv_lstm output=2 pad=1 bottleneck=1 activation=tanh", (2, 2, 2)),
    "conv_lstm bottleneck shortcut": (
        "conv_lstm output=2 pad=1 bottleneck=1 shortcut=1 peephole=1 lstm_activation=logistic",
        (2, 2, 2),
    ),
    "conv_lstm state_constrain": ("conv_lstm output=2 pad=1 state_constrain=1 peephole=1", (1, 2, 2)),
    "history": ("history history_size=2", (2, 2, 3)),
    "history longer than the sequence": ("history history_size=5", (1, 2, 2)),
    "history of one frame": ("history history_size=1", (2, 1, 2)),
}
NORMALIZED = {
    "rnn": ("rnn output=2 hidden=3 activation=tanh shortcut=1", (3,)),
    "gru": ("gru output=2 tanh=1", (3,)),
    "lstm": ("lstm output=2", (3,)),
    "crnn": ("crnn output=2 hidden=2 pad=1 activation=tanh", (1, 2, 2)),
    "conv_lstm": ("conv_lstm output=1 pad=1 peephole=1 activation=tanh", (1, 2, 2)),
    "conv_lstm bottleneck": ("conv_lstm output=2 pad=1 bottleneck=1", (2, 2, 2)),
}


def _cases():
    for name, (line, shape) in PLAIN.items():
        yield Case(name, [line], shape, batch=6, net=STEPS)
    for name, (line, shape) in NORMALIZED.items():
        yield Case(f"{name} normalized", [f"{line} batch_normalize=1"], shape, batch=10, net="time_steps=2")
    yield Case(
        "lstm by the moving statistics", ["lstm output=2 batch_normalize=1"], (3,), 6, STEPS, train=False
    )
    yield Case(
        "rnn normalize=layer", ["rnn output=4 hidden=5 activation=tanh normalize=layer"], (3,), 6, STEPS
    )
    yield Case(
        "rnn normalize_after_activation",
        ["rnn output=2 hidden=3 activation=tanh batch_normalize=1 normalize_after_activation=1"],
        (3,),
        10,
        "time_steps=2",
    )
    yield Case(
        "recurrent layers keep the delta of others",
        [
            "convolutional filters=2 size=3 pad=1 activation=tanh",
            "crnn output=2 hidden=2 pad=1 activation=tanh",
            "route layers=0",
            "conv_lstm output=2 pad=1",
            "route layers=0",
            "conv_lstm output=2 pad=1 bottleneck=1",
            "route layers=0",
            "history history_size=2",
            "route layers=0,1,3,5,7",
        ],
        (1, 2, 2),
        4,
        "time_steps=2",
    )
    yield Case(
        "rnn, gru and lstm in a row, with a loss",
        ["rnn output=3 hidden=2 activation=tanh", "gru output=2", "lstm output=2", "cost type=sse"],
        (2,),
        6,
        STEPS,
    )


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)
