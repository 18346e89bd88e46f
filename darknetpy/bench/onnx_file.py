"""ONNX files of networks for inference, as onnxruntime reads them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from darknetpy.bench.graph import Target

_OPERATIONS = 18    # version of ONNX's list
_FORMAT = 10
_FLOAT = TensorProto.FLOAT


class OnnxFile(Target):
    """Collects the operations of a network; :meth:`save` writes them."""

    activations = {
        "leaky": ("LeakyRelu", {"alpha": 0.1}), "relu": ("Relu", {}), "logistic": ("Sigmoid", {}),
        "tanh": ("Tanh", {}), "elu": ("Elu", {}), "mish": ("Mish", {}), "swish": (None, {}),
    }  # fmt: skip

    def __init__(self, batch):
        self.batch, self.nodes, self.constants, self.inputs = batch, [], [], []

    def _add(self, operation, *inputs, **attributes):
        name = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [name], **attributes))
        return name

    def _constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    # ---- operations
    def images(self, c, h, w):
        self.inputs.append(helper.make_tensor_value_info("images", _FLOAT, [self.batch, c, h, w]))
        return "images"

    def activation(self, x, name):
        operation, attributes = self.activations[name]
        if operation is None:   # swish
            return self._add("Mul", x, self._add("Sigmoid", x))
        return self._add(operation, x, **attributes)

    def convolution(self, x, l, weights, biases):
        x = self._add(
            "Conv", x, self._constant(weights), self._constant(biases), kernel_shape=[l["size"]] * 2,
            strides=[l["stride_y"], l["stride_x"]], pads=l["sides"][::2][::-1] * 2,
            dilations=[l["dilation"]] * 2, group=l["groups"],
        )  # fmt: skip
        return self.activated(x, l["activation"])

    def product(self, x, l, weights, biases):
        x = self._add("Gemm", x, self._constant(weights), self._constant(biases), transB=1)
        return self.activated(x, l["activation"])

    def flat(self, x):
        return self._add("Flatten", x, axis=1)

    def maximum(self, x, size, strides, sides):
        left, right, top, bottom = sides
        return self._add("MaxPool", x, kernel_shape=[size] * 2, strides=strides[::-1],
                         pads=[top, left, bottom, right])  # fmt: skip

    def average(self, x):
        return self._add("GlobalAveragePool", x)

    def nearest(self, x, scale):
        scales = self._constant(np.array([1, 1, scale, scale], np.float32))
        return self._add("Resize", x, "", scales, mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric")  # fmt: skip

    def concatenated(self, parts):
        return self._add("Concat", *parts, axis=1)

    def part(self, x, width, groups, index):
        ends = (self._constant(np.array([i], np.int64)) for i in (index * width, (index + 1) * width, 1))
        return self._add("Slice", x, *ends)

    def sum(self, x, y):
        return self._add("Add", x, y)

    def softmax(self, x):
        return self._add("Softmax", x, axis=1)

    # ---- the file
    def save(self, path, outputs):
        """Write the file; `outputs` are names."""
        found = [helper.make_tensor_value_info(name, _FLOAT, None) for name in dict.fromkeys(outputs)]
        graph = helper.make_graph(self.nodes, "network", self.inputs, found, self.constants)
        opset = [helper.make_opsetid("", _OPERATIONS)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=_FORMAT), path)
