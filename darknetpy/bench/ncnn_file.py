"""ncnn's pair of files, .param (text) and .bin, of networks for inference; a file of ncnn holds one image's pass."""

from __future__ import annotations

from collections import Counter

from darknetpy.bench.graph import Target

_MAGIC = 7767517
_ALL = -233     # what there is of an axis
# Activations that operations with weights take along: a kind, and a list of numbers, which stands in a place of its own.
_KIND, _NUMBERS = 9, -23310
_TAKEN_ALONG = {"linear": {}, "relu": {_KIND: 1}, "leaky": {_KIND: 2, _NUMBERS: (1, 0.1)}, "logistic": {_KIND: 4},
                "mish": {_KIND: 5}}  # fmt: skip


class NcnnFile(Target):
    """Collects the operations of a network; :meth:`save` writes them."""

    activations = {
        "leaky": ("ReLU", {0: 0.1}), "relu": ("ReLU", {}), "logistic": ("Sigmoid", {}), "tanh": ("TanH", {}),
        "elu": ("ELU", {0: 1.0}), "mish": ("Mish", {}), "swish": ("Swish", {}),
    }  # fmt: skip

    def __init__(self):
        self.operations = []    # (type, names of inputs, names of outputs, parameters)
        self.weights = []

    def _add(self, kind, *inputs, numbers=None):
        name = f"x{len(self.operations)}"
        self.operations.append((kind, inputs, [name], numbers or {}))
        return name

    def _weighted(self, kind, x, numbers, activation, weights, biases):
        """Weights stand behind a word that says float32, biases alone."""
        self.weights += [bytes(4), weights.astype("<f4").tobytes(), biases.astype("<f4").tobytes()]
        along = _TAKEN_ALONG.get(activation)
        x = self._add(kind, x, numbers={**numbers, **(along or {})})
        return x if along is not None else self.activated(x, activation)

    # ---- operations
    def images(self, c, h, w):
        return self._add("Input", numbers={0: w, 1: h, 2: c})

    def activation(self, x, name):
        kind, numbers = self.activations[name]
        return self._add(kind, x, numbers=numbers)

    def convolution(self, x, l, weights, biases):
        numbers = {0: l["filters"], 1: l["size"], 2: l["dilation"], 3: l["stride_x"], 13: l["stride_y"],
                   4: l["sides"][0], 14: l["sides"][2], 5: 1, 6: weights.size}  # fmt: skip
        kind = "Convolution"
        if l["groups"] > 1:
            kind, numbers[7] = "ConvolutionDepthWise", l["groups"]
        return self._weighted(kind, x, numbers, l["activation"], weights, biases)

    def product(self, x, l, weights, biases):
        numbers = {0: l["outputs"], 1: 1, 2: weights.size}
        return self._weighted("InnerProduct", x, numbers, l["activation"], weights, biases)

    def flat(self, x):
        return self._add("Flatten", x)

    def maximum(self, x, size, strides, sides):
        left, right, top, bottom = sides
        numbers = {0: 0, 1: size, 2: strides[0], 12: strides[1], 3: left, 14: right, 13: top, 15: bottom, 5: 1}
        return self._add("Pooling", x, numbers=numbers)

    def average(self, x):
        return self._add("Pooling", x, numbers={0: 1, 4: 1})

    def nearest(self, x, scale):
        return self._add("Interp", x, numbers={0: 1, 1: float(scale), 2: float(scale)})

    def concatenated(self, parts):
        return self._add("Concat", *parts, numbers={0: 0})

    def part(self, x, width, groups, index):
        return self._add("Crop", x, numbers={2: index * width, 3: _ALL, 4: _ALL, 5: width})

    def sum(self, x, y):
        return self._add("BinaryOp", x, y, numbers={0: 0})

    def softmax(self, x):
        return self._add("Softmax", x, numbers={0: 0, 1: 1})

    # ---- the files
    def save(self, path):
        """Write ``path``.param and ``path``.bin."""
        operations = self._with_splits()
        lines = [str(_MAGIC), f"{len(operations)} {sum(len(outputs) for _, _, outputs, _ in operations)}"]
        for i, (kind, inputs, outputs, numbers) in enumerate(operations):
            names = " ".join([*inputs, *outputs])
            values = " ".join(f"{key}={_text(value)}" for key, value in numbers.items())
            lines.append(f"{kind} {kind.lower()}_{i} {len(inputs)} {len(outputs)} {names} {values}")
        with open(path + ".param", "w") as file:
            file.write("\n".join(lines) + "\n")
        with open(path + ".bin", "wb") as file:
            file.writelines(self.weights)

    def _with_splits(self):
        """Return the operations with a Split behind each output that several read: ncnn gives it to one reader only."""
        readers = Counter(name for _, inputs, _, _ in self.operations for name in inputs)
        found, copies = [], {}
        for kind, inputs, outputs, numbers in self.operations:
            found.append((kind, [copies[x].pop() if x in copies else x for x in inputs], outputs, numbers))
            for name in outputs:
                if readers[name] > 1:
                    copies[name] = [f"{name}_{i}" for i in range(readers[name])]
                    found.append(("Split", [name], list(copies[name]), {}))
        return found


def _text(value):
    """Return a number, or several, as ncnn's text has it: a point makes it a float."""
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return f"{value:.7f}" if isinstance(value, float) else str(value)
