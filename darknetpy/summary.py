"""The text table of a network: one line per layer, and totals."""
from __future__ import annotations

_FILTERED = ("convolutional", "connected", "deconvolutional", "local")
HEAD = ("layer", "type", "filters", "size/stride", "input", "output", "BFLOPs", "trainable", "non-trainable")


def summary_rows(net):
    """Return one dict per layer: index, type, filters, size, stride, input, output, bflops, trainable, non_trainable."""
    return [_row(i, layer) for i, layer in enumerate(net.layers)]


def _row(index, layer):
    info = layer._info
    return {
        "index": index, "type": layer.type, "filters": info.out_c if layer.type in _FILTERED else None,
        "size": _window(layer), "input": _shape(info.c, info.h, info.w, info.inputs),
        "output": _shape(info.out_c, info.out_h, info.out_w, info.outputs), "bflops": _operations(layer) / 1e9,
        "trainable": _count(layer, "parameter"), "non_trainable": _count(layer, "statistic"),
    }


def _operations(layer):
    """What AlexeyAB prints: there 32 products of signs, bits of one word, count as one."""
    signs = [part for part in (layer, *layer.parts.values()) if part.type == "convolutional" and part.option("xnor")
             and part.option("xnor_outside")]
    return layer.flops - 31 / 32 * sum(part.flops for part in signs)


def _window(layer):
    """Size and stride, such as ``3x3/1`` or ``3x3/2x1``, with groups and dilation where they are not 1."""
    if layer.type in ("deconvolutional", "local"):
        return "{0}x{0}/{1}".format(*(int(layer.option(name)) for name in ("size", "stride")))
    if layer.type not in ("convolutional", "maxpool", "local_avgpool"):
        return ""
    if layer.type == "maxpool" and layer.option("maxpool_depth"):
        return ""
    value = {name: int(layer.option(name)) for name in ("size", "stride_x", "stride_y")}
    stride = f"{value['stride_x']}" if value["stride_x"] == value["stride_y"] else f"{value['stride_x']}x{value['stride_y']}"
    text = f"{value['size']}x{value['size']}/{stride}"
    if layer.type == "convolutional":
        text += "".join(f" {name[0]}{int(layer.option(name))}" for name in ("groups", "dilation") if layer.option(name) != 1)
    return text


def _count(layer, role):
    """Values of all arrays of a role, allocated or not."""
    lib = layer._core.lib
    rows = (lib.get_layer_array(layer._handle, i) for i in range(lib.count_layer_arrays(layer._handle)))
    own = sum(row.count for row in rows if row.role == getattr(lib, f"ARRAY_{role.upper()}") and not row.is_lent)
    return own + sum(_count(part, role) for part in layer.parts.values())


def _shape(c, h, w, flat):
    return f"{w} x {h} x {c}" if h > 0 else str(flat)


def remarks(net):
    """Return what is odd about a network though not wrong, one line each."""
    linked = {source for layer in net.layers for source in _links(layer)}
    return [f"layer {layer.index} [{layer.type}]: its biases are without effect, since the [batchnorm] after it subtracts the mean"
            for layer, after in zip(net.layers, net.layers[1:])
            if after.type == "batchnorm" and layer.type in ("convolutional", "connected") and layer.index not in linked
            and layer.option("normalize") == layer.option("activation") == 0]       # neither: sums plus biases go on


def _links(layer):
    """The earlier layers that a layer names in its options."""
    values = layer.spec.values if hasattr(layer, "spec") else layer.cfg_values
    return [index for key in ("layers", "from") for index in values.get(key) or ()]


def summary_text(net):
    """Return the table as text; see :meth:`darknetpy.Network.summary`."""
    rows = summary_rows(net)
    cells = [[str(r["index"]), r["type"], "" if r["filters"] is None else str(r["filters"]), r["size"], r["input"], r["output"],
              f"{r['bflops']:.3f}" if r["bflops"] else "", f"{r['trainable']:,}", f"{r['non_trainable']:,}"] for r in rows]
    totals = ["", "total", "", "", "", "", f"{sum(r['bflops'] for r in rows):.3f}", f"{sum(r['trainable'] for r in rows):,}",
              f"{sum(r['non_trainable'] for r in rows):,}"]
    widths = [max(len(line[i]) for line in [HEAD, totals, *cells]) for i in range(len(HEAD))]

    def line(values):
        return "  ".join(v.ljust(w) if i == 1 else v.rjust(w) for i, (v, w) in enumerate(zip(values, widths))).rstrip()

    rule = "-" * len(line(["-" * w for w in widths]))
    text = [line(HEAD), rule, *(line(c) for c in cells), rule, line(totals)]
    text.append(f"dialect {net.dialect}, batchnorm {net.batchnorm}, batch {net.batch} (x {net.subdivisions} subdivisions)")
    return "\n".join(text + remarks(net))
