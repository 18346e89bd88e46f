"""The passes of single layers: forward, backward, update, resize; for any layer, and under the name of every type.

``forward_<type>_layer(l, net)`` and ``backward_<type>_layer(l, net)`` work on ``net.input``, ``net.truth`` and ``net.delta``; see
:class:`darknetpy.Network`.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from darknetpy.arguments import finite_number, require_integers
from darknetpy.errors import ArgumentError, DeviceError
from darknetpy.layer import Layer
from darknetpy.network import Network


def forward_layer(l: Layer, net: Network) -> None:
    """Run one layer forward on ``net.input`` (and ``net.truth``), as training or inference as ``net.train`` says.

    Raises
    ------
    ArgumentError
        The network has no input, or one of another size than the layer's; or the layer cannot run so (batch normalization
        training on one value per channel).
    """
    _check_pass(l, net)
    core = net._core
    if net.input is None:
        raise ArgumentError("net.input is not set")
    core.array("net.input", net.input, l.batch * l.inputs, shape=l.input_shape)
    if net.truth is not None and l.truths:
        core.array("net.truth", net.truth, l.batch * l.truths)
    if l.fused and not net.option("fused"):
        l.fused = False
    l._referenced = (net.input, net.truth)
    core.lib.set_network_input(net._handle, core.address(net.input))
    core.lib.set_network_truth(net._handle, core.address(net.truth))
    core.check(core.lib.forward_layer(l._handle, net._handle))


def backward_layer(l: Layer, net: Network) -> None:
    """Run one layer backward from ``l.delta``: its updates grow, and ``net.delta`` gets the delta at the layer's input.

    ``net.delta`` is written into a buffer of the network's own, or added to the array that the user assigned.
    """
    _check_pass(l, net)
    core = net._core
    net._point_delta_at(l.input_shape)
    core.check(core.lib.backward_layer(l._handle, net._handle))


def update_layer(l: Layer, batch: int, learning_rate: float, momentum: float, decay: float) -> None:
    """One step of stochastic gradient descent with momentum, Darknet's rule.

    For every parameter: updates -= decay * batch * weights (weights only), parameter += learning_rate / batch * updates,
    updates *= momentum.

    Parameters
    ----------
    l : Layer
    batch : int
        Images that the updates were summed over.
    learning_rate, momentum, decay : float
    """
    if not isinstance(l, Layer):
        raise ArgumentError(f"wanted a layer, got {type(l).__name__}")
    require_integers(batch=batch)
    rate = finite_number("learning_rate", learning_rate)
    l._core.check(l._core.lib.update_layer(l._handle, batch, rate, finite_number("momentum", momentum), finite_number("decay", decay)))


def resize_layer(l: Layer, w: int, h: int) -> None:
    """Give a layer made by hand an input of w x h; parameters keep their values."""
    if l.index >= 0:
        raise ArgumentError("the layer belongs to a network: use net.resize")
    require_integers(w=w, h=h)
    l._refuse_while_viewed()
    l._core.check(l._core.lib.resize_layer(l._handle, l._core.ffi.NULL, h, w))
    l._referenced = None


def _check_pass(l, net):
    if not isinstance(l, Layer):
        raise ArgumentError(f"wanted a layer first, got {type(l).__name__}")
    if not isinstance(net, Network):
        raise ArgumentError(f"wanted a Network second, got {type(net).__name__}")
    if l.type in ("route", "shortcut", "scale_channels", "sam") and l.index < 0:
        raise ArgumentError(f"a {l.type} layer works inside a network: net.add it first")
    if net.device != "cpu":
        raise DeviceError(f"[{l.type}] a single layer runs on the CPU; on device {net.device!r} a whole network does, net.forward()")
    if l._shares_memory():
        raise ArgumentError(f"[{l.type}] layer {l.index} shares memory with others (keep_activations=False): it runs with its whole "
                            "network only, net.forward()")


class _Pass(Protocol):
    def __call__(self, l: Layer, net: Network) -> None: ...


class _Update(Protocol):
    def __call__(self, l: Layer, batch: int, learning_rate: float, momentum: float, decay: float) -> None: ...


class _Resize(Protocol):
    def __call__(self, l: Layer, w: int, h: int) -> None: ...


def _named(kind: str) -> tuple[_Pass, _Pass, _Update, _Resize]:
    """The functions that bear a type's name; they refuse layers of another."""
    def check(l):
        if isinstance(l, Layer) and l.type != kind:
            raise ArgumentError(f"wanted a {kind} layer, got a {l.type} layer")

    def forward(l: Layer, net: Network) -> None:
        check(l)
        forward_layer(l, net)

    def backward(l: Layer, net: Network) -> None:
        check(l)
        backward_layer(l, net)

    def update(l: Layer, batch: int, learning_rate: float, momentum: float, decay: float) -> None:
        check(l)
        update_layer(l, batch, learning_rate, momentum, decay)

    def resize(l: Layer, w: int, h: int) -> None:
        check(l)
        resize_layer(l, w, h)

    for verb, function, like in (("forward", forward, forward_layer), ("backward", backward, backward_layer),
                                 ("update", update, update_layer), ("resize", resize, resize_layer)):
        function.__name__ = function.__qualname__ = f"{verb}_{kind}_layer"
        summary = (like.__doc__ or "").partition("\n")[0]
        function.__doc__ = f"{summary} For {kind} layers; see :func:`{verb}_layer`."
    return forward, backward, update, resize


(forward_convolutional_layer, backward_convolutional_layer, update_convolutional_layer,
 resize_convolutional_layer) = _named("convolutional")
(forward_connected_layer, backward_connected_layer, update_connected_layer,
 resize_connected_layer) = _named("connected")
(forward_batchnorm_layer, backward_batchnorm_layer, update_batchnorm_layer,
 resize_batchnorm_layer) = _named("batchnorm")
(forward_groupnorm_layer, backward_groupnorm_layer, update_groupnorm_layer,
 resize_groupnorm_layer) = _named("groupnorm")
(forward_layernorm_layer, backward_layernorm_layer, update_layernorm_layer,
 resize_layernorm_layer) = _named("layernorm")
(forward_maxpool_layer, backward_maxpool_layer, update_maxpool_layer,
 resize_maxpool_layer) = _named("maxpool")
(forward_avgpool_layer, backward_avgpool_layer, update_avgpool_layer,
 resize_avgpool_layer) = _named("avgpool")
(forward_local_avgpool_layer, backward_local_avgpool_layer, update_local_avgpool_layer,
 resize_local_avgpool_layer) = _named("local_avgpool")
(forward_dropout_layer, backward_dropout_layer, update_dropout_layer,
 resize_dropout_layer) = _named("dropout")
(forward_activation_layer, backward_activation_layer, update_activation_layer,
 resize_activation_layer) = _named("activation")
(forward_softmax_layer, backward_softmax_layer, update_softmax_layer,
 resize_softmax_layer) = _named("softmax")
(forward_logistic_layer, backward_logistic_layer, update_logistic_layer,
 resize_logistic_layer) = _named("logistic")
(forward_cost_layer, backward_cost_layer, update_cost_layer,
 resize_cost_layer) = _named("cost")
(forward_crop_layer, backward_crop_layer, update_crop_layer,
 resize_crop_layer) = _named("crop")
(forward_route_layer, backward_route_layer, update_route_layer,
 resize_route_layer) = _named("route")
(forward_shortcut_layer, backward_shortcut_layer, update_shortcut_layer,
 resize_shortcut_layer) = _named("shortcut")
(forward_upsample_layer, backward_upsample_layer, update_upsample_layer,
 resize_upsample_layer) = _named("upsample")
(forward_yolo_layer, backward_yolo_layer, update_yolo_layer,
 resize_yolo_layer) = _named("yolo")
(forward_region_layer, backward_region_layer, update_region_layer,
 resize_region_layer) = _named("region")
(forward_Gaussian_yolo_layer, backward_Gaussian_yolo_layer, update_Gaussian_yolo_layer,
 resize_Gaussian_yolo_layer) = _named("Gaussian_yolo")
(forward_detection_layer, backward_detection_layer, update_detection_layer,
 resize_detection_layer) = _named("detection")
(forward_iseg_layer, backward_iseg_layer, update_iseg_layer,
 resize_iseg_layer) = _named("iseg")
(forward_contrastive_layer, backward_contrastive_layer, update_contrastive_layer,
 resize_contrastive_layer) = _named("contrastive")
(forward_deconvolutional_layer, backward_deconvolutional_layer, update_deconvolutional_layer,
 resize_deconvolutional_layer) = _named("deconvolutional")
(forward_local_layer, backward_local_layer, update_local_layer,
 resize_local_layer) = _named("local")
(forward_reorg_layer, backward_reorg_layer, update_reorg_layer,
 resize_reorg_layer) = _named("reorg")
(forward_reorg3d_layer, backward_reorg3d_layer, update_reorg3d_layer,
 resize_reorg3d_layer) = _named("reorg3d")
(forward_normalization_layer, backward_normalization_layer, update_normalization_layer,
 resize_normalization_layer) = _named("normalization")
(forward_l2norm_layer, backward_l2norm_layer, update_l2norm_layer,
 resize_l2norm_layer) = _named("l2norm")
(forward_scale_channels_layer, backward_scale_channels_layer, update_scale_channels_layer,
 resize_scale_channels_layer) = _named("scale_channels")
(forward_sam_layer, backward_sam_layer, update_sam_layer,
 resize_sam_layer) = _named("sam")
(forward_implicit_layer, backward_implicit_layer, update_implicit_layer,
 resize_implicit_layer) = _named("implicit")
(forward_empty_layer, backward_empty_layer, update_empty_layer,
 resize_empty_layer) = _named("empty")

(forward_rnn_layer, backward_rnn_layer, update_rnn_layer,
 resize_rnn_layer) = _named("rnn")
(forward_crnn_layer, backward_crnn_layer, update_crnn_layer,
 resize_crnn_layer) = _named("crnn")
(forward_gru_layer, backward_gru_layer, update_gru_layer,
 resize_gru_layer) = _named("gru")
(forward_lstm_layer, backward_lstm_layer, update_lstm_layer,
 resize_lstm_layer) = _named("lstm")
(forward_conv_lstm_layer, backward_conv_lstm_layer, update_conv_lstm_layer,
 resize_conv_lstm_layer) = _named("conv_lstm")
(forward_history_layer, backward_history_layer, update_history_layer,
 resize_history_layer) = _named("history")

if not TYPE_CHECKING:       # to a type checker every name above is public that begins without an underscore
    __all__ = [name for name in dir() if name.endswith("_layer") and not name.startswith("_")]
