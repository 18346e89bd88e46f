"""A layer as an object: its shape, its options, and its arrays as numpy views on C memory."""
from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from darknetpy._types import Array
from darknetpy.arguments import finite_number, require_number
from darknetpy.core import Core
from darknetpy.core import core as default_core
from darknetpy.device_array import DeviceView, device_array
from darknetpy.errors import ArgumentError, DeviceError

if TYPE_CHECKING:
    from darknetpy.sections import LayerSpec

STATISTICS_WORDS = ("ema", "cumulative", "last", "frozen")      # of the core's statistics_kind, in its order
_seeds = itertools.count()   # layers made by hand get weights of their own, the same in every run


class _Memory:
    """C memory as numpy's array interface; it keeps its owner alive, and the array keeps it."""

    def __init__(self, owner, address, shape, dtype):
        self.owner = owner
        self.__array_interface__ = {"data": (address, False), "shape": shape, "typestr": dtype.str, "version": 3}


class Layer:
    """One layer.

    Made by the ``make_<type>_layer`` functions and by :func:`darknetpy.load_network`.

    Attributes
    ----------
    type : str
        The section's name in a .cfg, such as ``"convolutional"``.
    index : int
        Its place in its network; -1 by hand.
    batch, h, w, c, inputs : int
        Rows of one pass and the shape of each row of the input: channels, height, width, or plain inputs (h = w = 0).
    out_h, out_w, out_c, outputs, truths : int
        The same of the output; `truths` is what a loss layer expects as truth, per row.
    cost : float
        Loss of the last forward pass that had a truth, summed over the batch (0 otherwise).
    flops : float
        Multiplications and additions of a forward pass, per row.
    parts : dict of str to Layer
        The layers that a composed one is made of, such as those of a recurrent layer; also ``l.wf``.
    output, delta, weights, biases, ... : ndarray
        The arrays of the layer type, views without a copy: what is written to them, the layer sees.  Assigning an array to
        such a name copies its values; they must be as many.  An array keeps its layer alive.  On a device they are copies,
        read-only but for ``l.weights[...] = values``, which writes to the device (:mod:`darknetpy.device_array`).  ``delta`` and the
        ``*_updates`` follow Darknet: delta = -dLoss/dOutput, updates are added to.
    """

    type: str
    spec: LayerSpec                     # of a layer that was read from a .cfg
    cfg_values: dict[str, Any]          # of one made by hand: its options as a .cfg has them
    _referenced: Any
    _lender: Any = None                 # the layer whose parameters this one shares
    _device: Any = None                 # where its arrays lie; None: the CPU

    def __init__(self, type_name: str, *, core: Core = default_core) -> None:
        self._core, self.type = core, type_name
        self._handle = core.ffi.gc(core.lib.new_layer(_type_number(core, type_name)), core.lib.free_layer)
        if self._handle == core.ffi.NULL:
            core.check(core.lib.DN_ERR_MEMORY)
        self._memory: weakref.WeakValueDictionary[str, _Memory] = weakref.WeakValueDictionary()
        self._rows: dict[str, int] = {}
        self.parts: dict[str, Layer] = {}
        self._referenced = None     # what owns the input and the truth of the last forward pass
        self.links = None       # of a route or shortcut made by hand: (batch, [(index or None: its input, shape made for)])

    # ---- making
    def _set_options(self, options):
        """Set options by name; numbers, and lists of numbers."""
        lib = self._core.lib
        for name, value in options.items():
            if isinstance(value, (list, tuple)):
                self._core.check(lib.set_layer_list(self._handle, name.encode(), [require_number(name, v) for v in value], len(value)))
            else:
                self._core.check(lib.set_layer_option(self._handle, name.encode(), require_number(name, value)))

    def _build(self, batch, h, w, c, network=None, train=True):
        """Shape the layer for an input and allocate its arrays."""
        handle = network._handle if network is not None else self._core.ffi.NULL
        self._core.check(self._core.lib.shape_layer(self._handle, handle, batch, h, w, c))
        self._core.check(self._core.lib.allocate_layer(self._handle, train))
        self._core.check(self._core.lib.initialize_layer(self._handle, next(_seeds)))
        self._list_arrays()
        return self

    def _list_arrays(self):
        lib, string = self._core.lib, self._core.ffi.string
        rows = [lib.get_layer_array(self._handle, i) for i in range(lib.count_layer_arrays(self._handle))]
        self._rows = {string(row.name).decode(): i for i, row in reversed(list(enumerate(rows))) if row.role != lib.ARRAY_KEPT}
        while (part := lib.get_layer_part(self._handle, len(self.parts))).name != self._core.ffi.NULL:
            self.parts[string(part.name).decode()] = Part(self, part.layer)
        for part in self.parts.values():
            part._list_arrays()

    # ---- shape
    @property
    def _info(self) -> Any:
        return self._core.lib.get_layer_info(self._handle)

    @property
    def index(self) -> int:
        return self._info.index

    @property
    def batch(self) -> int:
        return self._info.batch

    @property
    def h(self) -> int:
        return self._info.h

    @property
    def w(self) -> int:
        return self._info.w

    @property
    def c(self) -> int:
        return self._info.c

    @property
    def inputs(self) -> int:
        return self._info.inputs

    @property
    def out_h(self) -> int:
        return self._info.out_h

    @property
    def out_w(self) -> int:
        return self._info.out_w

    @property
    def out_c(self) -> int:
        return self._info.out_c

    @property
    def outputs(self) -> int:
        return self._info.outputs

    @property
    def truths(self) -> int:
        return self._info.truths

    @property
    def cost(self) -> float:
        return self._info.cost if self._info.has_cost else 0.0

    @property
    def flops(self) -> float:
        return self._info.flops

    @property
    def is_loss(self) -> bool:
        return bool(self._info.is_loss)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, (batch, c, h, w), or (batch, inputs) without an image."""
        info = self._info
        return (info.batch, info.c, info.h, info.w) if info.h > 0 else (info.batch, info.inputs)

    def option(self, name: str) -> float:
        """Return the value in effect of a number option."""
        value = self._core.lib.get_layer_option(self._handle, name.encode())
        if np.isnan(value):
            raise ArgumentError(f"[{self.type}] has no number option {name}")
        return value

    @property
    def fused(self) -> bool:
        """Whether normalization runs in fused kernels; set to False to run it composed of the named kernels."""
        return bool(self.option("fused"))

    @fused.setter
    def fused(self, value: bool) -> None:
        self._set_and_allocate("fused", value)

    @property
    def keep_x_norm(self) -> bool:
        """Whether a normalization stores its normalized values (it always does when not fused)."""
        return bool(self.option("keep_x_norm"))

    @keep_x_norm.setter
    def keep_x_norm(self, value: bool) -> None:
        self._set_and_allocate("keep_x_norm", value)

    @property
    def statistics(self) -> str:
        """What becomes of mini-batches' statistics: "ema", "cumulative", "last" or "frozen", as in a .cfg."""
        return STATISTICS_WORDS[int(self.option("statistics"))]

    @statistics.setter
    def statistics(self, word: str) -> None:
        if word not in STATISTICS_WORDS:
            raise ArgumentError(f"statistics={word!r}: wanted one of {', '.join(STATISTICS_WORDS)}")
        self._set_statistics("statistics", word, STATISTICS_WORDS.index(word))

    @property
    def rolling_momentum(self) -> float:
        """Share of the old value in the moving statistics, under statistics="ema"."""
        return float(str(self._core.dtype.type(self.option("rolling_momentum"))))       # .99, not .9900000095

    @rolling_momentum.setter
    def rolling_momentum(self, share: float) -> None:
        if not 0 <= finite_number("rolling_momentum", share) < 1:
            raise ArgumentError(f"rolling_momentum={share!r}: wanted a number in [0, 1)")
        self._set_statistics("rolling_momentum", float(share), share)

    def _set_statistics(self, key, value, number):
        """Tell the core, and the values that a .cfg or a checkpoint of the layer is written from."""
        if self.option("batchnorm_mode") and value != "ema":
            raise ArgumentError(f"[{self.type}] {key}={value}: a layer with batchnorm=darknet has Darknet's own "
                                "moving averages")
        self._set_options({key: number})
        self.cfg_options[key] = value

    @property
    def cfg_options(self) -> dict[str, Any]:
        """The layer's options as a .cfg has them; links are absolute."""
        return self.spec.values if hasattr(self, "spec") else self.cfg_values

    def reset_statistics(self) -> None:
        """Begin the moving statistics anew: the next mini-batch is the first; under "ema" they are zero until then.

        Does nothing for a layer without batch normalization, and for frozen statistics.
        """
        for part in self.parts.values():
            part.reset_statistics()
        if "statistics_count" not in self.arrays("counter") or self.statistics == "frozen":
            return
        self.statistics_count[:] = 0
        if self.statistics == "ema":
            self.rolling_mean[:] = self.rolling_variance[:] = 0

    def _keeps_statistics(self):
        return "statistics_count" in self._rows and self._keeps("statistics_count")

    def _set_and_allocate(self, name, value):
        if self._shares_memory():
            raise ArgumentError(f"[{self.type}] {name}={value!r}: a layer of a network loaded with keep_activations=False "
                                "has the arrays that it was made with")
        self._core.check(self._core.lib.set_layer_option(self._handle, name.encode(), float(bool(value))))
        if self._rows:
            train = self._keeps("delta")
            self._core.check(self._core.lib.allocate_layer(self._handle, train))

    # ---- arrays
    def _shares_memory(self):
        return bool(self._rows) and bool(self._row("output").is_shared)

    def _row(self, name):
        return self._core.lib.get_layer_array(self._handle, self._rows[name])

    def on_device(self, name: str) -> DeviceView:
        """Return an array of a layer on a GPU, for PyCUDA, CuPy, torch and others: no copy, and writable.

        Raises
        ------
        DeviceError
            The layer lies elsewhere.
        ArgumentError
            It has no such array now.
        """
        if self._device is None:
            raise DeviceError(f"[{self.type}] lies on the CPU: l.{name} is the array itself")
        if name not in self._rows or not self._keeps(name) or not self._row(name).on_device:
            raise ArgumentError(f"[{self.type}] keeps no array {name!r} on the device now")
        return DeviceView(self, *self._place(self._row(name)))

    def _place(self, row):
        """Return address, shape and dtype of an array."""
        shape = tuple(row.dim[i] for i in range(row.dims))
        return int(self._core.ffi.cast("uintptr_t", row.data)), shape, np.dtype(np.int32) if row.is_int else self._core.dtype

    def _keeps(self, name):
        row = self._row(name)
        return row.data != self._core.ffi.NULL and row.dims > 0

    def _array(self, name):
        """Return the array, or None where the layer keeps none now."""
        row = self._row(name)
        if not self._keeps(name):
            return None
        address, shape, dtype = self._place(row)
        if row.on_device:
            return device_array(self, self._rows[name], shape, dtype)
        memory = self._memory.get(name)
        known = memory is not None and memory.__array_interface__
        if not known or known["data"][0] != address or known["shape"] != shape:
            owner = (self, self._referenced)    # the input's values, which l.x may show, are another's
            memory = _Memory(owner if name == "x" else self, address, shape, dtype)
            self._memory[name] = memory
            if name == "weights":
                self._lend_weights(memory)
        return np.asarray(memory)

    def _lend_weights(self, memory):
        """Tell the core that the weights may be written to as long as any view on `memory` lives: each keeps it alive."""
        lib, handle = self._core.lib, self._handle
        lib.lend_layer_weights(handle)
        weakref.finalize(memory, lib.return_layer_weights, handle).atexit = False

    def arrays(self, *roles: str) -> dict[str, Array]:
        """Return a dict of name -> array of the given roles; parameters and statistics come in .weights order.

        The names of a part's arrays begin with its own: ``"wf.weights"``. What the layer shares with an earlier
        one (``share_index``) is that layer's and left out here.

        Parameters
        ----------
        *roles : str
            ``"parameter"``, ``"update"``, ``"moment"``, ``"statistic"``, ``"counter"``, ``"state"``,
            ``"activation"``; none: all.
        """
        lib = self._core.lib
        wanted = {getattr(lib, f"ARRAY_{role.upper()}") for role in roles}
        names = [name for name, i in sorted(self._rows.items(), key=lambda item: item[1])
                 if not (row := lib.get_layer_array(self._handle, i)).is_lent and (not roles or row.role in wanted)]
        found = {name: array for name in names if (array := self._array(name)) is not None}
        for part_name, part in self.parts.items():
            found.update({f"{part_name}.{name}": array for name, array in part.arrays(*roles).items()})
        return found

    def __getattr__(self, name: str) -> Array:
        rows = vars(self).get("_rows", ())      # absent while the object is being made
        if name in vars(self).get("parts", ()):
            return self.parts[name]
        if name == "x_norm" and "mean" in rows and name not in rows:    # group normalization never stores it
            return self._compute_x_norm()
        if name.startswith("_") or name not in rows:
            raise AttributeError(f"[{vars(self).get('type')}] layer has no {name!r}; its arrays are {', '.join(rows)}")
        array = self._array(name)
        if array is None and name == "x_norm" and self._row("mean").dims:
            return self._compute_x_norm()
        if array is None and self._row(name).is_shared:
            raise AttributeError(f"[{self.type}] layer keeps no {name!r}: its network was loaded with keep_activations=False, "
                                 "and other layers use that memory by now")
        if array is None:
            raise AttributeError(f"[{self.type}] layer keeps no {name!r} now (made for inference, or not run yet)")
        return array

    def __setattr__(self, name: str, value: Any) -> None:
        """Copy values into an array of the layer; an attribute of that name would hide the array from its reader."""
        if name not in vars(self).get("_rows", ()):
            super().__setattr__(name, value)
            return
        array = getattr(self, name)
        if value is array or np.may_share_memory(value, array) and np.shape(value) == array.shape:
            return                              # l.scales += 1 has been done in place already
        self._core.array(name, value, array.size, shape=array.shape)
        array[...] = value.reshape(array.shape)

    def __reduce_ex__(self, protocol):
        raise TypeError(f"a {self.type} layer lives in C memory and cannot be copied or pickled; net.save_checkpoint(path) keeps "
                        f"a whole network")

    def _compute_x_norm(self):
        """The normalized values of the last pass, worked out anew: (x - mean) / sqrt(variance + 1e-5)."""
        x = self._array("x")
        if x is None:
            raise AttributeError(f"[{self.type}] layer has no x_norm before its first training pass")
        moving = "rolling_" if self._keeps_statistics() and self.statistics == "frozen" else ""
        values, mean, variance = x.copy(), self._array(f"{moving}mean"), self._array(f"{moving}variance")
        steps, address = len(values) // self.batch, self._core.address      # 1, but in a recurrent layer's parts
        batch = self.batch if self._keeps_statistics() else 1   # else (batch, groups)
        if moving:
            mean, variance = np.tile(mean, steps), np.tile(variance, steps)
        for x, m, v in zip(np.split(values, steps), mean.reshape(steps, -1), variance.reshape(steps, -1)):
            spatial = x.size // (batch * m.size)
            self._core.lib.normalize_cpu(address(x), address(m), address(v), batch, m.size, spatial)
        values.flags.writeable = False
        return values

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *self._rows, *self.parts])

    def __repr__(self) -> str:
        info = self._info
        return (f"<{self.type} layer: batch {info.batch}, {shape_text(info.c, info.h, info.w, info.inputs)} -> "
                f"{shape_text(info.out_c, info.out_h, info.out_w, info.outputs)}>")

    def _refuse_while_viewed(self):
        """A resize frees arrays, so nobody may hold one."""
        for part in self.parts.values():
            part._refuse_while_viewed()
        if len(self._memory):
            raise ArgumentError(f"the {self.type} layer cannot be resized while arrays of it are in use: "
                                f"{', '.join(self._memory)}; delete them first (or copy)")


class Part(Layer):
    """A layer inside a composed one, whose memory it keeps alive and whose options it shares."""

    def __init__(self, owner: Layer, handle: Any) -> None:
        self._core, self._handle, self._owner = owner._core, handle, owner._handle
        self.type = self._core.ffi.string(self._core.lib.get_layer_string(self._info.type)).decode()
        self._memory, self._rows, self.parts = weakref.WeakValueDictionary(), {}, {}
        self._referenced = self.links = None
        self.cfg_values = owner.cfg_options


def shape_text(c: int, h: int, w: int, flat: int) -> str:
    """A shape for people: width x height x channels, or the number of plain values."""
    return f"{w}x{h}x{c}" if h > 0 else str(flat)


def _type_number(core, name):
    for number in range(core.lib.LAYER_TYPES):
        if core.ffi.string(core.lib.get_layer_string(number)).decode() == name:
            return number
    raise ArgumentError(f"no layer type {name!r}")


def activation_number(name: str, core: Core = default_core) -> int:
    """Return the number of an activation's name; ArgumentError lists the names."""
    number = core.lib.get_activation(str(name).encode())
    if number < 0:
        names = (core.ffi.string(core.lib.get_activation_string(i)).decode() for i in range(core.lib.ACTIVATIONS))
        raise ArgumentError(f"activation {name!r}: wanted one of {', '.join(names)}")
    return number
