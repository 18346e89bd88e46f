"""The loss of [yolo] in PyTorch, on whole tensors; what it means stands in csrc/yolo_layer.c and yolo_rules.h.

Imports torch and nothing of darknetpy.
"""
from __future__ import annotations

import torch
from torch.nn import functional

# option -> the only value that this loss knows
_ONLY = {"new_coords": 0, "iou_loss": 0, "objectness_smooth": 0, "focal_loss": 0, "label_smooth_eps": 0, "yolo_point": 0}


def refused(l):
    """Return which option of a layer this loss does not know, as text, or None."""
    for name, value in _ONLY.items():
        if l.get(name, value) != value:
            return f"[yolo] {name}={l[name]}"
    if l.get("counters_per_class"):
        return "[yolo] counters_per_class"
    return "[yolo] truth_thresh or iou_thresh below 1" if min(l["truth_thresh"], l["iou_thresh"]) < 1 else None


def _overlaps(a, b):
    """Return the IoU of each box of a (batch, m, 4) with each of b (batch, n, 4); boxes are centre and size."""
    low = torch.maximum((a[..., :2] - a[..., 2:] / 2)[:, :, None], (b[..., :2] - b[..., 2:] / 2)[:, None])
    high = torch.minimum((a[..., :2] + a[..., 2:] / 2)[:, :, None], (b[..., :2] + b[..., 2:] / 2)[:, None])
    both = (high - low).clamp(min=0).prod(-1)
    return both / (a[..., 2:].prod(-1)[:, :, None] + b[..., 2:].prod(-1)[:, None] - both)


class YoloLoss:
    """Who learns what, and the sum of all losses, divided by the batch.

    Parameters
    ----------
    l : dict
        The layer as written down.
    width, height : int
        Of the network's input, in whose pixels anchors are.
    """

    def __init__(self, l, width, height):
        self.l, self.entries = l, 5 + l["classes"]
        self.anchors = torch.tensor(l["anchors"]).reshape(-1, 2) / torch.tensor([width, height])
        self.mask = torch.tensor(l["mask"] or list(range(l["num"])))

    def __call__(self, z, truth):
        """Return the loss of the layer's input z (batch, anchors * entries * h * w) and truth (batch, boxes, row)."""
        batch, (_, rows, columns) = len(z), self.l["output"]
        z = z.reshape(batch, len(self.mask), self.entries, rows, columns).movedim(2, -1)
        truth = truth[:, :int((truth[..., 0] > 0).sum(1).max())].to(z.dtype)
        with torch.no_grad():
            wanted, asked = torch.zeros_like(z[..., 4]), self._asked(z, truth)
            image, row, slot = self._matches(truth)
            boxes = truth[image, row, :4]
            place = boxes[:, :2] * torch.tensor([columns, rows])
            cell = place.long()
            at = image, slot, cell[:, 1], cell[:, 0]
            wanted[at], asked[at] = 1, 1
            classes = functional.one_hot(truth[image, row, 4].long(), self.entries - 5).to(z.dtype)
            sizes = (boxes[:, 2:] / self.anchors.to(z.dtype)[self.mask[slot]]).log()
            weight = (2 - boxes[:, 2:].prod(1, keepdim=True)) * self.l["iou_normalizer"]
            stretch = self.l["scale_x_y"]
            inside = (place - cell + (stretch - 1) / 2) / stretch
        entropy = functional.binary_cross_entropy_with_logits
        chosen = z[at]
        loss = self.l["obj_normalizer"] * entropy(z[..., 4], wanted, asked, reduction="sum")
        loss = loss + entropy(chosen[:, 5:], classes, reduction="sum")
        loss = loss + stretch * entropy(chosen[:, :2], inside, weight.expand(-1, 2), reduction="sum")
        return (loss + (weight * (chosen[:, 2:4] - sizes).square()).sum() / 2) / batch

    def _asked(self, z, truth):
        """Return 1 for every anchor whose objectness learns, 0 where its box is near enough to a truth."""
        batch, _, rows, columns, _ = z.shape
        grid = torch.stack(torch.meshgrid(torch.arange(columns), torch.arange(rows), indexing="xy"), -1)
        stretch, anchors = self.l["scale_x_y"], self.anchors.to(z.dtype)[self.mask][:, None, None]
        centres = (grid + torch.sigmoid(z[..., :2]) * stretch - (stretch - 1) / 2) / torch.tensor([columns, rows])
        boxes = torch.cat((centres, z[..., 2:4].exp() * anchors), -1).flatten(1, 3)
        near = (_overlaps(boxes, truth[..., :4]) > self.l["ignore_thresh"]).any(-1)
        if self.l["alexeyab"]:
            near &= (torch.sigmoid(z[..., 5:]) > .25).any(-1).flatten(1)
        return (~near).to(z.dtype).reshape(z.shape[:-1])

    def _matches(self, truth):
        """Return image, row of the truth and slot of the anchor of every truth that this layer learns."""
        sizes, anchors = truth[..., None, 2:4], self.anchors.to(truth.dtype)
        both = torch.minimum(sizes, anchors).prod(-1)
        best = (both / (sizes.prod(-1) + anchors.prod(-1) - both)).argmax(-1)
        return ((best[..., None] == self.mask) & (truth[..., 0] > 0)[..., None]).nonzero(as_tuple=True)
