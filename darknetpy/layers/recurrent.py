"""Constructors of recurrent layers: [rnn], [gru], [lstm], [crnn], [conv_lstm], [history].

As in Darknet `batch` counts the rows of all time steps: `steps` times the sequences.  Rows are time-major:
row t * sequences + s is sequence s at time step t.  Each layer begins a pass at its ``state``, zeros at
first, and leaves the last one there.
"""

from __future__ import annotations

from typing import Any, Optional

from darknetpy.arguments import require_integers
from darknetpy.layer import Layer
from darknetpy.layers.making import make


def make_rnn_layer(
    batch: int,
    inputs: int,
    outputs: int,
    steps: int,
    activation: str = "logistic",
    batch_normalize: int = 0,
    adam: int = 0,
    *,
    hidden: Optional[int] = None,
    logistic: int = 0,
    shortcut: int = 0,
) -> Layer:
    """Connected layers: s_t = input_layer(x_t) + self_layer(s_{t-1}), y_t = output_layer(s_t).

    Parameters
    ----------
    batch, inputs, outputs, steps : int
    activation : str
        Of all three parts.
    batch_normalize, adam : bool
    hidden : int, optional
        Values of the state (AlexeyAB); None: `outputs`.
    logistic : {0, 1, 2}
        Activation of self_layer instead: 1 logistic, 2 loggy (AlexeyAB).
    shortcut : bool
        Add s_{t-1} to s_t.

    Returns
    -------
    Layer
        input_layer, self_layer, output_layer: its parts, connected layers; state (sequences, hidden, 1, 1);
        output (batch, outputs, 1, 1).
    """
    hidden = outputs if hidden is None else hidden
    require_integers(
        batch=batch, inputs=inputs, outputs=outputs, steps=steps, hidden=hidden, logistic=logistic
    )
    values = {
        "output": outputs,
        "hidden": hidden,
        "activation": activation,
        "logistic": logistic,
        "shortcut": int(bool(shortcut)),
    }
    return _make("rnn", batch, 0, 0, inputs, values, steps, batch_normalize, adam)


def make_gru_layer(
    batch: int,
    inputs: int,
    outputs: int,
    steps: int,
    batch_normalize: int = 0,
    adam: int = 0,
    *,
    tanh: int = 0,
) -> Layer:
    """Gated recurrent unit: h_t = z h_{t-1} + (1 - z) c; z, r of input and state, c of input and r h_{t-1}.

    Parameters
    ----------
    batch, inputs, outputs, steps : int
    batch_normalize, adam : bool
    tanh : bool
        The candidate c by tanh; else it is logistic, as Darknet's is.

    Returns
    -------
    Layer
        uz, ur, uh (on the input), wz, wr, wh (on the state): its parts, connected layers;
        state (sequences, outputs, 1, 1); output (batch, outputs, 1, 1).
    """
    require_integers(batch=batch, inputs=inputs, outputs=outputs, steps=steps)
    return _make(
        "gru", batch, 0, 0, inputs, {"output": outputs, "tanh": int(bool(tanh))}, steps, batch_normalize, adam
    )


def make_lstm_layer(
    batch: int, inputs: int, outputs: int, steps: int, batch_normalize: int = 0, adam: int = 0
) -> Layer:
    """Long short-term memory: c_t = f c_{t-1} + i g, h_t = o tanh(c_t); f, i, o, g of input and h_{t-1}.

    Parameters
    ----------
    batch, inputs, outputs, steps : int
    batch_normalize, adam : bool

    Returns
    -------
    Layer
        uf, ui, ug, uo (on the input), wf, wi, wg, wo (on the state): its parts, connected layers;
        state and cell_state (sequences, outputs, 1, 1); output (batch, outputs, 1, 1).
    """
    require_integers(batch=batch, inputs=inputs, outputs=outputs, steps=steps)
    return _make("lstm", batch, 0, 0, inputs, {"output": outputs}, steps, batch_normalize, adam)


def make_crnn_layer(
    batch: int,
    h: int,
    w: int,
    c: int,
    hidden_filters: int,
    output_filters: int,
    steps: int,
    activation: str = "logistic",
    batch_normalize: int = 0,
    *,
    size: int = 3,
    stride: int = 1,
    dilation: int = 1,
    padding: Optional[int] = None,
    groups: int = 1,
    xnor: int = 0,
    shortcut: int = 0,
    adam: int = 0,
) -> Layer:
    """As :func:`make_rnn_layer`, with convolutions for connected layers and maps for the state.

    Parameters
    ----------
    batch, h, w, c : int
        Rows of all time steps; height, width and channels of the input.
    hidden_filters, output_filters, steps : int
        Channels of state and output; time steps.
    activation : str
    batch_normalize, adam, shortcut : bool
    size, dilation, padding, groups : int
        Of all three convolutions (AlexeyAB); padding None: size // 2.
    xnor : bool
        They take sums over signs, as in :func:`make_convolutional_layer` (AlexeyAB).
    stride : int
        Of the convolution on the input; the state has its output's size.

    Returns
    -------
    Layer
        input_layer, self_layer, output_layer: its parts, convolutional layers;
        state (sequences, hidden_filters, out_h, out_w); output (batch, output_filters, out_h, out_w).
    """
    values = {
        "hidden": hidden_filters,
        "output": output_filters,
        "activation": activation,
        "shortcut": int(bool(shortcut)),
        **_convolution(size, stride, dilation, padding, groups, xnor),
    }
    require_integers(
        batch=batch, h=h, w=w, c=c, steps=steps, hidden_filters=hidden_filters, output_filters=output_filters
    )
    return _make("crnn", batch, h, w, c, values, steps, batch_normalize, adam)


def make_conv_lstm_layer(
    batch: int,
    h: int,
    w: int,
    c: int,
    output_filters: int,
    groups: int = 1,
    steps: int = 1,
    size: int = 3,
    stride: int = 1,
    dilation: int = 1,
    pad: Optional[int] = None,
    activation: str = "linear",
    batch_normalize: int = 0,
    peephole: int = 0,
    xnor: int = 0,
    bottleneck: int = 0,
    *,
    shortcut: int = 0,
    state_constrain: Optional[int] = None,
    lstm_activation: str = "tanh",
    adam: int = 0,
) -> Layer:
    """As :func:`make_lstm_layer`, with convolutions for connected layers and maps for state and cell.

    Parameters
    ----------
    batch, h, w, c : int
        Rows of all time steps; height, width and channels of the input.
    output_filters, groups, steps : int
        Channels of the output, of state and of cell; groups of channels; time steps.
    size, dilation, pad : int
        Of all convolutions; pad, in pixels, None: size // 2.
    stride : int
        Of the convolutions on the input.
    activation : str
        Of each convolution, before their sum.
    batch_normalize, adam : bool
    peephole : bool
        Gates look at the cell too, through convolutions vf, vi and vo.
    xnor : bool
        Convolutions take sums over signs, as in :func:`make_convolutional_layer`.
    bottleneck : bool
        Gates look at one convolution wf of state and input; input and output must have one shape.
    shortcut : bool
        With `bottleneck`: add the first half of its channels to the output.
    state_constrain : int, optional
        The next step sees the cell within plus or minus this; 0: as it is; None: 32 times the steps.
    lstm_activation : str
        Of candidate and cell.

    Returns
    -------
    Layer
        Parts uf, ui, ug, uo, wf, wi, wg, wo, vf, vi, vo, convolutional layers; state and cell_state
        (sequences, output_filters, out_h, out_w); output (batch, output_filters, out_h, out_w).
    """
    require_integers(batch=batch, h=h, w=w, c=c, steps=steps, output_filters=output_filters)
    limit = 32 * steps if state_constrain is None else state_constrain
    require_integers(state_constrain=limit)
    values = {
        "output": output_filters,
        "activation": activation,
        **_convolution(size, stride, dilation, pad, groups, xnor),
        "peephole": int(bool(peephole)),
        "bottleneck": int(bool(bottleneck)),
        "shortcut": int(bool(shortcut)),
        "state_constrain": limit,
        "lstm_activation": lstm_activation,
    }
    return _make("conv_lstm", batch, h, w, c, values, steps, batch_normalize, adam)


def make_history_layer(batch: int, h: int, w: int, c: int, history_size: int = 4, steps: int = 1) -> Layer:
    """The last `history_size` frames of each sequence side by side in the channels, the newest first.

    Parameters
    ----------
    batch, h, w, c, history_size, steps : int

    Returns
    -------
    Layer
        state (sequences, (history_size - 1) * c, h, w), the frames before the next pass;
        output (batch, history_size * c, h, w).
    """
    require_integers(batch=batch, h=h, w=w, c=c, history_size=history_size, steps=steps)
    return make("history", batch, h, w, c, {"history_size": history_size}, {"time_steps": steps})


def _convolution(size, stride, dilation, padding, groups, xnor):
    padding = size // 2 if padding is None else padding
    require_integers(size=size, stride=stride, dilation=dilation, padding=padding, groups=groups)
    return {"size": size, "stride": stride, "dilation": dilation, "padding": padding, "groups": groups,
            "xnor": int(bool(xnor))}


def _make(kind, batch, h, w, c, values, steps, batch_normalize, adam):
    normalize: dict[str, Any] = {
        "batch_normalize": int(bool(batch_normalize)),
        "normalize": "batch" if batch_normalize else "none",
    }
    return make(kind, batch, h, w, c, {**values, **normalize}, {"time_steps": steps, "adam": bool(adam)})
