"""A network as an object: layers in order, passes, training steps, prediction."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

from darknetpy._types import Floats, Integers, Path
from darknetpy.arguments import positive_number
from darknetpy.core import Core
from darknetpy.core import core as default_core
from darknetpy.errors import ArgumentError, DarknetError
from darknetpy.gpu import use_device
from darknetpy.graphs import PassGraph, pass_graphs
from darknetpy.layer import Layer, shape_text
from darknetpy.memory_summary import memory_text
from darknetpy.network_options import NetworkOptions
from darknetpy.summary import summary_text

if TYPE_CHECKING:
    from darknetpy.detection import Detection
    from darknetpy.sections import Resolved


class Network(NetworkOptions):
    """Layers in order, and the arrays they work on.

    An empty network serves single layers by hand::

        net = Network(train=True)
        net.input = x
        forward_batchnorm_layer(l, net)

    A whole one comes from :func:`darknetpy.load_network`, or layer by layer from :meth:`add`.

    Parameters
    ----------
    batch : int, optional
        Rows of one forward pass; needed with `w`, `h`, `c` for a network of several layers.
    w, h, c : int, optional
        Width, height and channels of the input image.  Without `w` and `h` the input is `c` plain values.
    train : bool
        Whether forward passes train: batch statistics, dropout, losses' deltas.
    device : str
        Where arrays lie and passes run: ``"cpu"``, ``"gpu"``, ``"gpu:1"``, ``"emulated"``; also an attribute.
    fused : bool
        Run normalization in fused kernels; False: composed of the named kernels, for reading and checking.

    Attributes
    ----------
    layers : list of Layer
    input, truth, delta : ndarray or None
        Referenced, not copied; any shape of the right number of values, float32, C-contiguous.  `delta` receives the
        gradient at the input (-dLoss/dInput): into a buffer of the network's own while it is None; an array that is assigned
        is added to; assigning None makes the next backward pass write again.
    train : bool
    seen : int
        Rows passed forward in training so far.
    graph : bool
        Whether a device may begin a pass as one CUDA graph; it changes no result.  :attr:`graphs` says what became of it.
    """

    layers: list[Layer]
    dialect: str
    batchnorm: str
    sections: Optional[Resolved]
    notes: list[str]

    def __init__(self, batch: Optional[int] = None, w: Optional[int] = None, h: Optional[int] = None,
                 c: Optional[int] = None, *, train: bool = False, device: str = "cpu", fused: bool = True,
                 core: Core = default_core) -> None:
        self._core, self.device = core, device
        self._handle = core.ffi.gc(core.lib.make_network(), core.lib.free_network)
        if self._handle == core.ffi.NULL:
            core.check(core.lib.DN_ERR_MEMORY)
        self._device = use_device(self, device)     # whose memory the arrays' is; None: the CPU's
        self.layers, self._kept = [], []
        self.dialect, self.batchnorm, self.sections = "pjreddie", "paper", None
        self.notes = list(self._device.notes) if self._device else []
        self._input = self._truth = self._delta = self._own_delta = self._staged = None
        self._built_for_training = bool(train)
        self.train = train
        self._pending = 0
        self._set_options({"fused": int(bool(fused))})
        if batch is not None:
            self._set_options({"batch": positive_number("batch", batch)})
        if c is None and (w, h) != (None, None):
            raise ArgumentError(f"w={w} h={h}: wanted c, the channels, too")
        if c is not None:
            sides = {"width": positive_number("w", w), "height": positive_number("h", h)} if (w, h) != (None, None) else {}
            image = sides or {"inputs": c}
            self._set_options({**image, "channels": positive_number("c", c)})

    @property
    def inputs(self) -> int:
        """Values per row of the input."""
        return self.layers[0].inputs if self.layers and self.layers[0].type not in ("route", "shortcut") else max(
            self.w * self.h * self.c, int(self.option("inputs")))

    @property
    def outputs(self) -> int:
        """Values per row of what :meth:`predict` returns."""
        return self._output_layer().outputs

    @property
    def truths(self) -> int:
        """Values per row of the truth that the loss layers expect; 0 without one."""
        return max((layer.truths for layer in self.layers), default=0)

    @property
    def graphs(self) -> dict[str, PassGraph]:
        """The last passes of each kind as graphs of the device: :class:`darknetpy.graphs.PassGraph` by the pass's name."""
        return pass_graphs(self)

    # ---- the arrays of a pass
    @property
    def input(self) -> Optional[Floats]:
        """The input; referenced, not copied."""
        return self._input

    @input.setter
    def input(self, array: Optional[Floats]) -> None:
        self._input = self._checked("input", array, self.batch * self.inputs if self.layers else None)
        self._core.lib.set_network_input(self._handle, self._core.address(self._input))

    @property
    def truth(self) -> Optional[Floats]:
        """What the loss layers compare with; referenced, not copied."""
        return self._truth

    @truth.setter
    def truth(self, array: Optional[Floats]) -> None:
        self._truth = self._checked("truth", array, self.batch * self.truths if self.layers and self.truths else None)
        self._core.lib.set_network_truth(self._handle, self._core.address(self._truth))

    @property
    def delta(self) -> Optional[Floats]:
        """The gradient at the input, -dLoss/dInput; see the class."""
        return self._delta if self._delta is not None else self._own_delta

    @delta.setter
    def delta(self, array: Optional[Floats]) -> None:
        self._delta = self._checked("delta", array, self.batch * self.inputs if self.layers else None, writable=True)
        self._own_delta = None

    def _checked(self, name, array, count, writable=False):
        return None if array is None else self._core.array(name, array, count, writable)

    def _point_delta_at(self, shape):
        """Give C the array that a backward pass sends the input's gradient to: the user's is added to, our own is written."""
        count = int(np.prod(shape))
        if self._delta is not None:
            self._core.array("delta", self._delta, count, writable=True)
        elif self._own_delta is None or self._own_delta.shape != shape:
            self._own_delta = np.zeros(shape, self._core.dtype)
        self._core.lib.set_network_delta(self._handle, self._core.address(self.delta), self._delta is not None)

    # ---- layers
    def add(self, layer: Layer) -> Layer:
        """Append a layer made for the shape that the network has there; return it.

        Raises
        ------
        ArgumentError
            The layer was made for another shape, or belongs to a network already.
        """
        core = self._core
        if not isinstance(layer, Layer):
            raise ArgumentError(f"wanted a layer, got {type(layer).__name__}")
        if layer.index >= 0:
            raise ArgumentError(f"the {layer.type} layer is layer {layer.index} of a network already")
        made = bool(layer._rows)
        self._refuse_other_shape(layer)
        core.check(core.lib.add_layer(self._handle, layer._handle))
        if not made:
            core.check(core.lib.allocate_layer(layer._handle, True))
            core.check(core.lib.initialize_layer(layer._handle, self.seed))
        layer._list_arrays()
        if not self.option("fused"):
            layer.fused = False
        self._append(layer)
        return layer

    def _refuse_other_shape(self, layer):
        """Refuse a layer whose arrays are made for another shape than the one that it would get here."""
        info = self.layers[-1]._info if self.layers else None
        h, w, c, inputs = (info.out_h, info.out_w, info.out_c, info.outputs) if info else (self.h, self.w, self.c, self.inputs)
        here = f"batch {self.batch} and {shape_text(c, h, w, inputs)}"
        where = f"layer {len(self.layers)} [{layer.type}]"
        if layer.links is not None:
            batch, links = layer.links
            sources = [(self.layers[i], made_for) for i, made_for in links if i is not None and 0 <= i < len(self.layers)]
            wrong = [f"layer {l.index} has {shape_text(l.out_c, l.out_h, l.out_w, l.outputs)}, not {made_for}"
                     for l, made_for in sources
                     if made_for not in (str(l.outputs), shape_text(l.out_c, l.out_h, l.out_w, l.outputs))]
            wrong += [f"its input is {here}, not {made_for}" for i, made_for in links
                      if i is None and made_for != shape_text(c, h, w, inputs)]
            if batch != self.batch:
                wrong.append(f"it was made for batch {batch}, not {self.batch}")
            if wrong:
                raise ArgumentError(f"{where}: {'; '.join(wrong)}")
        elif (layer.batch, layer.inputs) != (self.batch, inputs) or layer.h > 0 and (layer.h, layer.w) != (
                h or 1, w or 1):        # plain inputs are an image of one pixel
            raise ArgumentError(f"{where} was made for batch {layer.batch} and "
                                f"{shape_text(layer.c, layer.h, layer.w, layer.inputs)} inputs; here it gets {here} inputs")

    def _append(self, layer):
        shared = layer.cfg_options.get("share_index")
        layer._lender = None if shared is None else self.layers[shared]     # its arrays must live as long
        layer._device = self._device
        self.layers.append(layer)
        self._kept.append(layer)                # the core points to it whatever becomes of the public list

    def __getitem__(self, key: Union[int, str]) -> Layer:
        """Return a layer by its index or by its name, ``type_index``, such as ``net["convolutional_3"]``."""
        if isinstance(key, (int, np.integer)):
            return self.layers[key]
        names = [f"{layer.type}_{i}" for i, layer in enumerate(self.layers)]
        if key in names:
            return self.layers[names.index(key)]
        raise KeyError(f"{key!r}: this network has {', '.join(names)}")

    def __len__(self) -> int:
        return len(self.layers)

    def _output_layer(self):
        for layer in reversed(self.layers):
            if layer.type not in ("cost", "contrastive"):
                return layer
        raise ArgumentError("the network has no layer with an output")

    # ---- passes
    def stage(self, x: Floats, truth: Optional[Union[Floats, Integers]] = None) -> None:
        """Announce what the next pass reads: it is copied to the device while the kernels of this one run there.

        Whatever pass comes first on these very arrays finds them there; until then they must stay as they are.  On the CPU
        nothing happens.

        Parameters
        ----------
        x, truth
            As :meth:`train_batch` or :meth:`forward` will get them.
        """
        if x is None:
            raise ArgumentError("stage needs an input")
        if self._device is None:
            return
        count = self.batch * self.truths if self.truths else None
        rows = self._checked("truth", self._as_rows(truth), count)
        staged = truth, rows, self._checked("input", x, self.batch * self.inputs)
        self._staged = None                     # no older announcement outlives this one, which may fail
        self._core.check(self._core.lib.stage_network(self._handle, self._core.address(x), self._core.address(rows)))
        self._staged = staged                   # whose memory nobody else gets

    def forward(self, x: Optional[Floats] = None, truth: Optional[Union[Floats, Integers]] = None,
                train: Optional[bool] = None) -> Optional[float]:
        """One forward pass over a whole mini-batch; return the loss per row, or None without a truth.

        Parameters
        ----------
        x : ndarray, batch * inputs values, optional
            Becomes :attr:`input`; None: what is set already.
        truth : ndarray, batch * truths values, or int labels (batch,), optional
            Becomes :attr:`truth`; None: none.
        train : bool, optional
            Becomes :attr:`train`; None: as it is.
        """
        if train is not None:
            self.train = train
        if x is not None:
            self.input = x
        if self._input is None:
            raise ArgumentError("the network has no input yet: net.input = x, or net.forward(x)")
        if not self.layers:
            raise ArgumentError("the network has no layers")
        self.truth = self._as_truth(truth)
        owner = self._input
        for layer in self.layers:
            layer._referenced, owner = (owner, self._truth), layer
        try:
            self._core.check(self._core.lib.forward_network(self._handle))
        finally:
            if self._staged is not None and not self.option("is_ahead"):
                self._staged = None             # read; from here on the arrays may change
        return self._loss_per_row()

    def _loss_per_row(self):
        if not any(layer._info.has_cost for layer in self.layers):
            return None
        return self._core.lib.network_cost(self._handle) / self.batch

    def _as_truth(self, truth):
        """The truth of a pass: its rows, those that were announced if it was."""
        announced = self._staged is not None and truth is self._staged[0]
        return self._staged[1] if announced else self._as_rows(truth)

    def _as_rows(self, truth):
        """Int labels become one row each with a one at the label."""
        if truth is None or not isinstance(truth, np.ndarray) or truth.dtype.kind not in "iu":
            return truth
        if truth.shape != (self.batch,):
            raise ArgumentError(f"truth: wanted {self.batch} labels, shape ({self.batch},), got {truth.shape}")
        if truth.size and not (0 <= truth.min() and truth.max() < self.truths):
            raise ArgumentError(f"truth: wanted labels 0 to {self.truths - 1}, got {truth.min()} to {truth.max()}")
        rows = np.zeros((self.batch, self.truths), self._core.dtype)
        rows[np.arange(self.batch), truth] = 1
        return rows

    def backward(self) -> None:
        """One backward pass after :meth:`forward`: every layer's delta and updates, and :attr:`delta`."""
        self._require_training("backward")
        self._point_delta_at(self.layers[0].input_shape)
        self._core.check(self._core.lib.backward_network(self._handle))

    def update(self) -> None:
        """One step of the optimizer over all layers with what the backward passes have gathered."""
        self._require_training("update")
        self._core.check(self._core.lib.update_network(self._handle))

    def train_batch(self, x: Floats, truth: Union[Floats, Integers]) -> float:
        """Train on one mini-batch: forward, backward, and an update when `subdivisions` mini-batches are complete.

        Parameters
        ----------
        x : ndarray, batch * inputs values
        truth : ndarray, batch * truths values, or int labels (batch,) for classifiers

        Returns
        -------
        float
            Loss per row: Darknet's printed loss before averaging.

        Raises
        ------
        ArgumentError
            The network was made with train=False, or has no loss layer.
        DarknetError
            The loss is not finite; nothing was updated.
        """
        self._require_training("train_batch")
        if not self.truths:
            raise ArgumentError("the network has no loss layer ([cost], [softmax], [logistic]): it cannot train")
        if x is None or truth is None:
            raise ArgumentError("train_batch needs an input" if x is None else "train_batch needs a truth")
        self.input, truth = x, self._as_truth(truth)
        self.truth = truth
        self.seen += self.batch
        try:
            loss = self.forward(truth=truth, train=True)
        except DarknetError:
            self.seen -= self.batch             # nothing is counted that was refused
            raise
        if not np.isfinite(loss):
            iteration, self.seen = self.iteration, self.seen - self.batch
            raise DarknetError(f"loss is {loss} at iteration {iteration}{self._first_not_finite(truth)}; nothing was updated")
        self._core.lib.set_network_delta(self._handle, self._core.ffi.NULL, 0)
        due = self.seen // self.batch % self.subdivisions == 0
        learn = self._core.lib.learn_network if due else self._core.lib.backward_network
        self._core.check(learn(self._handle))
        self._pending = 0 if due else self._pending + 1
        return loss

    def _first_not_finite(self, truth):
        """Run the pass again, looking at each output while it is there."""
        kept = [(array, array.copy()) for layer in self.layers for array in layer.arrays("statistic", "counter", "state").values()]
        self._set_options({"watch": 1})
        try:
            self.forward(truth=truth, train=True)
        finally:
            self._set_options({"watch": 0})
            for array, values in kept:
                array[...] = values
        first = int(self.option("first_not_finite"))
        return f": the first output that is not finite is layer {first} [{self.layers[first].type}]'s" if first >= 0 else ""

    def _require_training(self, what):
        if not self._built_for_training:
            raise ArgumentError(f"{what}: the network was made with train=False and keeps no gradients; load it with train=True")
        if not self.layers:
            raise ArgumentError(f"{what}: the network has no layers")

    def predict(self, x: Floats) -> Floats:
        """Return the network's output for any number of rows; input, truth and training state are left alone.

        Parameters
        ----------
        x : ndarray of float32, rows * inputs values, C-contiguous
            Fewer rows than the batch are padded, more are run in turns; a recurrent network wants whole batches.

        Returns
        -------
        ndarray, shape (rows,) + shape of one row of the last layer that is not a cost
            A copy.

        Notes
        -----
        A recurrent network goes on from the state that the last call left (:meth:`reset_state`), row
        t * sequences + s being sequence s at time step t.  One made for training keeps its training's state.
        """
        x = self._core.array("x", x)
        if self.inputs == 0 or x.size % self.inputs or not x.size:
            raise ArgumentError(f"x: wanted rows of {self.inputs} values, got {x.size} values {x.shape}")
        flat, results, layer = x.reshape(-1, self.inputs), [], self._output_layer()
        states = self._states()
        if states and len(flat) % self.batch:
            raise ArgumentError(f"x: {len(flat)} rows: a recurrent network wants a multiple of its batch, {self.batch}")
        before = self.train, self._input, self._truth
        kept = [(state, state.copy()) for state in states if self._built_for_training]
        try:
            for at in range(0, len(flat), self.batch):
                rows = flat[at:at + self.batch]
                if len(rows) < self.batch:
                    rows = np.concatenate([rows, np.zeros((self.batch - len(rows), self.inputs), self._core.dtype)])
                self.forward(rows, train=False)
                results.append(layer._array("output")[:len(flat) - at].copy())
        finally:
            self.train, self.input, self.truth = before
            for state, values in kept:
                state[...] = values
        return results[0] if len(results) == 1 else np.concatenate(results)

    def detect(self, image: Any, thresh: float = .25, nms: float = .45, *, hier_thresh: float = .5,
               letterbox: Optional[bool] = None, names: Optional[Sequence[str]] = None) -> list[Detection]:
        """Return the objects that a detector finds in an image, the surest first.

        Parameters
        ----------
        image : path, Pillow image, or ndarray of uint8 (h, w, 3), RGB
        thresh : float
            Least objectness and least confidence.
        nms : float
            Of two detections of a class that overlap by more, the less sure is dropped; 0 keeps all.
        hier_thresh : float
            With a class tree: how sure to be to name a child instead of its parent.
        letterbox : bool, optional
            Keep the image's proportions; None: what the dialect and [net] letter_box say.
        names : sequence of str, optional
            The classes' names; None: their numbers.

        Returns
        -------
        list of Detection
            (label, class_id, confidence, box) each; box: (x, y, w, h), centre and size in pixels of the image.
        """
        from darknetpy.detection import detect

        return detect(self, image, thresh, nms, hier_thresh=hier_thresh, letterbox=letterbox, names=names)

    def _states(self):
        return [state for layer in self.layers for state in layer.arrays("state").values()]

    def reset_state(self, sequence: Optional[int] = None) -> None:
        """Let recurrent layers begin anew, at a state of zeros.

        Parameters
        ----------
        sequence : int, optional
            The one sequence of the mini-batch to begin anew; None: all.
        """
        for state in self._states():
            if sequence is not None and not 0 <= sequence < len(state):
                raise ArgumentError(f"sequence={sequence!r}: wanted 0 to {len(state) - 1}")
            state[slice(None) if sequence is None else sequence] = 0

    # ---- the rest of its life
    def resize(self, w: int, h: int) -> None:
        """Give the network an input of w x h; parameters keep their values.

        Raises
        ------
        ArgumentError
            A layer cannot have that size (a connected layer's weights, say), or arrays of a layer are in use.
        """
        for layer in self.layers:
            layer._refuse_while_viewed()
        self._core.check(self._core.lib.resize_network(self._handle, positive_number("h", h), positive_number("w", w)))
        self._input = self._truth = self._delta = self._own_delta = self._staged = None
        for layer in self.layers:
            layer._referenced = None

    def reset_statistics(self) -> None:
        """Begin the moving statistics of every layer anew; see :meth:`Layer.reset_statistics`."""
        for layer in self.layers:
            layer.reset_statistics()

    def recompute_statistics(self, batches: Iterable[Floats]) -> int:
        """Average the statistics of mini-batches; see :func:`darknetpy.moving_statistics.recompute_statistics`."""
        from darknetpy.moving_statistics import recompute_statistics

        return recompute_statistics(self, batches)

    def fuse(self) -> Network:
        """Fold batch normalization into the weights of the layers before it, in place; return the network.

        The outputs stay the same up to rounding; :meth:`to_cfg` and :meth:`save_weights` then write a network without
        batch normalization.  A [batchnorm] behind a linear convolutional or connected layer goes, and later layers
        move up by one.
        What cannot be folded stays, and a note in ``notes`` says why.

        Raises
        ------
        ArgumentError
            The network was made for training, which needs the normalization.
        """
        from darknetpy.fusion import fuse

        return fuse(self)

    def summary(self, memory: bool = False) -> str:
        """Return a text table: layer, filters, size, input, output, BFLOPs, trainable and non-trainable parameters.

        Parameters
        ----------
        memory : bool
            The bytes of every layer's arrays instead, and the network's peak.
        """
        return memory_text(self) if memory else summary_text(self)

    def to_cfg(self) -> str:
        """Return the network as the text of a .cfg that builds it again."""
        from darknetpy.builder import network_to_cfg

        return network_to_cfg(self)

    def load_weights(self, path: Path, cutoff: Optional[int] = None, *, start: int = 0,
                     allow_nonfinite: bool = False) -> None:
        """Read a .weights file; see :func:`darknetpy.weights.load_weights`."""
        from darknetpy.weights import load_weights

        load_weights(self, path, cutoff, start=start, allow_nonfinite=allow_nonfinite)

    def save_weights(self, path: Path, cutoff: Optional[int] = None, *, averaged: bool = False) -> None:
        """Write a .weights file, whole or not at all; see :func:`darknetpy.weights.save_weights`."""
        from darknetpy.weights import save_weights

        save_weights(self, path, cutoff, averaged=averaged)

    def save_checkpoint(self, path: Path, extra: Any = None) -> None:
        """Write all that exact resume needs; see :func:`darknetpy.checkpoint.save_checkpoint`."""
        from darknetpy.checkpoint import save_checkpoint

        save_checkpoint(self, path, extra)

    def __reduce_ex__(self, protocol):
        raise TypeError("a network lives in C memory and cannot be copied or pickled; net.save_checkpoint(path) keeps all of it")

    def __repr__(self) -> str:
        return f"<network of {len(self.layers)} layers, batch {self.batch}, {self.dialect}>"
