"""``darknetpy detector test DATA CFG WEIGHTS IMAGE...``."""
from __future__ import annotations

import csv
import io
import json
import os
import sys
import time

from PIL import Image

from darknetpy.cli import common
from darknetpy.cli.parser import share
from darknetpy.data.datafile import find_file, read_data_file, read_names
from darknetpy.data.detection import SCENES
from darknetpy.data.source import FASHION_NAMES
from darknetpy.detection import detect, heads, read_image
from darknetpy.dialects import dialect_value
from darknetpy.errors import ArgumentError, DataError
from darknetpy.files import write_atomically

_EXAMPLE = """examples:
  darknetpy detector test coco.data yolov3.cfg yolov3.weights dog.jpg                      writes predictions.jpg
  darknetpy detector test coco.data yolov3.cfg yolov3.weights photos/ -out found/          a picture for each photo
  ls *.jpg | darknetpy detector test coco.data yolov3.cfg yolov3.weights - --csv           figures only"""
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm")
_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".ppm": "PPM"}


def add_parser(subparsers):
    """Add the command to the parser of ``detector`` and return its own parser."""
    parser = subparsers.add_parser(
        "test", help="find objects in images", epilog=_EXAMPLE,
        description="Print what a detector finds in images, and draw it: one image into predictions.jpg, several into the folder "
                    "predictions/. With --json or --csv pictures are drawn only where -out says so.")
    parser.add_argument("data", metavar="DATA",
                        help=".data file, whose names= are the classes' names, or fashion-scenes:")
    parser.add_argument("cfg", metavar="CFG", help=common.CFG_HELP)
    parser.add_argument("weights", metavar="WEIGHTS", help=".weights file or checkpoint")
    parser.add_argument("images", metavar="IMAGE", nargs="*",
                        help="JPEG, PNG, BMP or PPM file, a folder of them, or - for names on standard input (default: -)")
    parser.add_argument("-thresh", "--thresh", type=share, metavar="P", help="least confidence (default: the dialect's, .5 or .25)")
    parser.add_argument("-hier", "--hier", type=share, metavar="P", default=.5,
                        help="with a class tree: how sure to be to name a child (default: .5)")
    parser.add_argument("-nms", "--nms", type=share, metavar="P", default=.45,
                        help="largest overlap of two detections of a class (default: .45; 0 keeps all)")
    parser.add_argument("-out", "--out", metavar="PATH",
                        help="picture (JPEG without an ending), folder of pictures, or .json file (AlexeyAB's)")
    parser.add_argument("-ext_output", action="store_true", help="print boxes too")
    parser.add_argument("-letter_box", action="store_true", help="keep the proportions of images (default: as the dialect does)")
    parser.add_argument("-dont_show", "-nogpu", "-fullscreen", "-show", action="store_true", dest="ignored",
                        help="accepted as Darknet's: no window is opened; --device chooses a GPU")
    parser.add_argument("--csv", action="store_true", help="print lines of image, class, name, confidence, x, y, w, h")
    common.add_run_options(parser)
    common.add_network_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    common.use_threads(args)
    if args.json and args.csv:
        raise ArgumentError("--json and --csv: wanted one of them")
    names = _names(args.data)
    net = common.load_for_inference(args, batch=1, time_steps=1)
    classes = int(heads(net)[-1].option("classes"))
    if len(names) != classes:
        raise DataError(f"{args.data}: names has {len(names)} lines, one for each of classes={classes} was wanted")
    options = {"thresh": dialect_value("detector_thresh", net.dialect) if args.thresh is None else args.thresh,
               "nms": args.nms, "hier_thresh": args.hier, "letterbox": args.letter_box or None, "names": names}
    pictures = _Pictures(args)
    shown = _Json() if args.json else _Csv() if args.csv else _Text(args.ext_output)
    file = _Json(args.out) if (args.out or "").endswith(".json") else None
    skipped = 0
    for path in _paths(args.images or ["-"]):
        try:
            pixels = read_image(path)
        except DataError as error:
            if args.on_bad_image != "skip":
                raise
            print(f"note: skipped {error}", file=sys.stderr)
            skipped += 1
            continue
        begin = time.perf_counter()
        found = detect(net, pixels, **options)
        for sink in (shown, file):
            if sink is not None:
                sink.add(path, pixels, found, time.perf_counter() - begin)
        pictures.add(path, pixels, found)
    for sink in (shown, file):
        if sink is not None:
            sink.close()
    if skipped:
        print(f"note: {skipped} images skipped", file=sys.stderr)
    return 0


def _names(path):
    """The classes' names of a .data file, or of fashion-scenes:."""
    if path == SCENES:
        return FASHION_NAMES
    data = read_data_file(path)
    name = data.get("names", "data/names.list")
    folder = os.path.dirname(path)
    found = find_file(name, [folder, os.path.join(folder, os.pardir)])      # Darknet is started beside cfg/ and data/
    if not os.path.exists(found):
        raise data.error("names", f"no such file: {name}")
    return read_names(found)


def _paths(words):
    """Yield the image files that the words of the command line mean."""
    for word in words:
        if word == "-":
            yield from filter(None, map(str.strip, sys.stdin))
        elif os.path.isdir(word):
            inside = sorted(name for name in os.listdir(word) if name.lower().endswith(ENDINGS))
            if not inside:
                raise DataError(f"{word}: no images in this folder ({', '.join(ENDINGS)})")
            yield from (os.path.join(word, name) for name in inside)
        else:
            yield word


class _Pictures:
    """Where drawn pictures go: one file for one image, else a folder, in which equal names get numbers."""

    def __init__(self, args):
        self.wanted = not (args.json or args.csv) if args.out is None else not args.out.endswith(".json")
        one = len(args.images) == 1 and args.images[0] != "-" and not os.path.isdir(args.images[0])
        out = args.out or "predictions"
        self.file = None
        if one and not out.endswith(os.sep) and not os.path.isdir(out):
            self.file = out if os.path.splitext(out)[1].lower() in _FORMATS else out + ".jpg"
        elif os.path.splitext(out)[1].lower() in _FORMATS:
            raise ArgumentError(f"-out {out}: several images go into a folder, not into one picture")
        self.folder, self.used = out, {}

    def add(self, path, pixels, found):
        if not self.wanted:
            return
        from darknetpy.drawing import draw

        target = self.file or self._next(path)
        kind = _FORMATS[os.path.splitext(target)[1].lower()]
        buffer, image = io.BytesIO(), Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        draw(image, found).save(buffer, kind, **({"quality": 92} if kind == "JPEG" else {}))
        write_atomically(target, [buffer.getvalue()])

    def _next(self, path):
        os.makedirs(self.folder, exist_ok=True)
        stem = os.path.splitext(os.path.basename(path))[0]
        count = self.used[stem] = self.used.get(stem, 0) + 1
        return os.path.join(self.folder, f"{stem}.jpg" if count == 1 else f"{stem}_{count}.jpg")


class _Text:
    """Darknet's own lines."""

    def __init__(self, boxes):
        self.boxes = boxes

    def add(self, path, pixels, found, seconds):
        print(f"{path}: Predicted in {seconds:.6f} seconds.")
        for label, _, confidence, box in found:
            place = (f"\t(left_x: {box.left:4.0f}   top_y: {box.top:4.0f}   width: {box.w:4.0f}   height: {box.h:4.0f})"
                     if self.boxes else "")
            print(f"{label}: {100 * confidence:.0f}%{place}", flush=True)

    def close(self):
        """Nothing is held back."""


class _Csv:
    """Lines for spreadsheets; boxes by centre and size in pixels."""

    def __init__(self):
        self.writer = csv.writer(sys.stdout, lineterminator="\n")
        self.writer.writerow(["image", "class_id", "name", "confidence", "x", "y", "w", "h"])

    def add(self, path, pixels, found, seconds):
        for label, class_id, confidence, box in found:
            self.writer.writerow([path, class_id, label, f"{confidence:.7f}", *(f"{value:.3f}" for value in box)])

    def close(self):
        """Nothing is held back."""


class _Json:
    """What AlexeyAB's -out writes, with the images' sizes and boxes in pixels."""

    def __init__(self, path=None):
        self.path, self.frames = path, []

    def add(self, path, pixels, found, seconds):
        h, w = pixels.shape[:2]
        self.frames.append({"frame_id": len(self.frames) + 1, "filename": path, "width": w, "height": h, "objects": [
            {"class_id": class_id, "name": label, "confidence": confidence,
             "relative_coordinates": {"center_x": box.x / w, "center_y": box.y / h, "width": box.w / w, "height": box.h / h},
             "box": {"x": box.x, "y": box.y, "w": box.w, "h": box.h}} for label, class_id, confidence, box in found]})

    def close(self):
        if self.path is None:
            common.print_json(self.frames)
        else:
            write_atomically(self.path, [json.dumps(self.frames, indent=1).encode()])
