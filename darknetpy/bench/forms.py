"""What `bench kernels` measures: kernels and layer passes, with the memory traffic and arithmetic of each."""

from __future__ import annotations

from dataclasses import dataclass

LAYERS = ("batchnorm", "groupnorm", "layernorm")
SHAPES = (
    (64, 64, 56, 56),
    (32, 256, 28, 28),
    (8, 32, 416, 416),
    (128, 512, 7, 7),
    (256, 1024, 1, 1),
    (16, 64, 104, 104),
)
_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Form:
    """One thing measured.

    Attributes
    ----------
    layer : str
        Of which layer it is a part.
    reads, writes : int
        Tensors of the layer's size that must be read and written at least once.
    again : int
        Tensors that a second pass reads again: the first gives sums, without which nothing can be written.
    flops : int
        Additions and multiplications per value.
    """

    layer: str
    reads: int
    writes: int
    flops: int
    again: int = 0

    @property
    def traffic(self):
        """Return least bytes per value between memory and processor."""
        return _FLOAT * (self.reads + self.writes)

    def least_seconds(self, shape, threads, memory, cache):
        """Return the time that memory alone needs for the passes made.

        Parameters
        ----------
        shape : (int, int, int, int)
        threads : int
        memory : dict
            Bytes per second of ``"read"``, ``"write"`` and ``"copy"``.
        cache : int
            Bytes of the last-level cache: a second pass whose tensors fit reads them from there.
        """
        values = shape[0] * shape[1] * shape[2] * shape[3] * _FLOAT
        if not self.again:
            if not self.writes:
                return values * self.reads / memory["read"]
            return values * (2 / memory["copy"] + (self.reads - 1) / memory["read"])
        first = values * self.reads / memory["read"]
        if self.again * self.set_bytes(shape) * threads <= cache:
            return first + values / memory["write"]
        return first + values * (2 / memory["copy"] + (self.again - 1) / memory["read"])

    def set_bytes(self, shape):
        """Return bytes of the values that share one mean: a channel, or a group of one sample."""
        n, c, h, w = shape
        shared = {"batchnorm": n, "layernorm": c}.get(self.layer, c // default_groups(c))
        return shared * h * w * _FLOAT


def default_groups(channels):
    """Return the largest divisor of `channels` that is not above 32."""
    return max(g for g in range(1, min(channels, 32) + 1) if channels % g == 0)


# Sums take four operations per value: the difference from a shift or mean, a product, two additions.
# Writing takes a factor and a summand; backward two factors, a difference and two summands.
_FORWARD, _BACKWARD, _INFERENCE = 4 + 2, 4 + 5, 2
KERNELS = {
    "mean_cpu": Form("batchnorm", 1, 0, 1),
    "variance_cpu": Form("batchnorm", 1, 0, 3),
    "normalize_cpu": Form("batchnorm", 1, 1, 2),
    "scale_bias": Form("batchnorm", 1, 1, 1),
    "add_bias": Form("batchnorm", 1, 1, 1),
    "backward_bias": Form("batchnorm", 1, 0, 1),
    "backward_scale_cpu": Form("batchnorm", 2, 0, 2),
    "mean_delta_cpu": Form("batchnorm", 1, 0, 1),
    "variance_delta_cpu": Form("batchnorm", 2, 0, 3),
    "normalize_delta_cpu": Form("batchnorm", 2, 1, 5),
}
PASSES = {
    "batchnorm forward": Form("batchnorm", 1, 1, _FORWARD, again=1),
    "batchnorm backward": Form("batchnorm", 2, 1, _BACKWARD, again=2),
    "batchnorm inference": Form("batchnorm", 1, 1, _INFERENCE),
    "groupnorm forward": Form("groupnorm", 1, 1, _FORWARD, again=1),
    "groupnorm backward": Form("groupnorm", 2, 1, _BACKWARD, again=2),
    "layernorm forward": Form("layernorm", 1, 1, _FORWARD, again=1),
    "layernorm backward": Form("layernorm", 2, 1, _BACKWARD, again=2),
}
_FAST = ("mean", "variance", "mean_delta", "variance_delta")
# Darknet's names of the CUDA functions -> the CPU's function that computes the same
TWINS = {
    **{name.replace("_cpu", "") + "_gpu": name for name in KERNELS},
    **{f"fast_{name}_gpu": f"{name}_cpu" for name in _FAST},
}
FORMS = {**PASSES, **KERNELS, **{name: KERNELS[twin] for name, twin in TWINS.items()}}


def forms_of(layers, kernels=True, device="cpu"):
    """Return the names of the forms of some layers on a device; without `kernels` their passes only."""
    names = [*PASSES, *((KERNELS if device == "cpu" else TWINS) if kernels else ())]
    return [name for name in names if FORMS[name].layer in layers]
