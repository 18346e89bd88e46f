"""ncnn as a program of the benchmark: inference from the files that ``ncnn_file.py`` wrote, image by image, in float32."""
from __future__ import annotations

import os

import ncnn
import numpy as np


class Program:
    """A network of ncnn's with one mini-batch."""

    def __init__(self, job, workload):
        network, self.net = job["network"], ncnn.Net()
        options = self.net.opt
        options.num_threads = self.threads = job["threads"]
        for name in dir(options):       # numbers of 32 bits, as everybody else has
            if name.startswith(("use_fp16", "use_bf16", "use_int8")):
                setattr(options, name, False)
        path = os.path.join(job["folder"], "network")
        if self.net.load_param(path + ".param") or self.net.load_model(path + ".bin"):
            raise RuntimeError("ncnn refuses the network's files")
        self.names = network["files"]["ncnn"]
        images = workload(network["batch"], network["inputs"], network["truths"])[0]
        self.images = [ncnn.Mat(image) for image in images.reshape(len(images), *network["shape"])]
        self._images = images           # alive as long as what points into it

    def facts(self):
        """Return what this program is."""
        return {"program": f"ncnn {ncnn.__version__}", "threads": self.threads}

    def _run(self, names):
        """Return the named outputs of each image."""
        found = []
        for image in self.images:
            extractor = self.net.create_extractor()
            extractor.input("x0", image)
            found.append([extractor.extract(name)[1] for name in names])
        return found

    def step(self):
        """Predict."""
        self._run(self.names["ends"])

    def outputs(self):
        """Return the outputs of the layers that programs are compared by."""
        found = [[np.array(output) for output in outputs] for outputs in self._run(self.names["compared"])]
        return [np.stack(outputs) for outputs in zip(*found)]
