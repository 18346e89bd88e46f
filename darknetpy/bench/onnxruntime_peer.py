"""onnxruntime as a program of the benchmark: inference from the file that ``onnx_file.py`` wrote, all optimizations on."""
from __future__ import annotations

import os

import onnxruntime


class Program:
    """A session with one mini-batch."""

    def __init__(self, job, workload):
        network, options = job["network"], onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = job["threads"], 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(os.path.join(job["folder"], "network.onnx"), options,
                                                    providers=["CPUExecutionProvider"])
        self.names, self.threads = network["files"]["onnxruntime"], job["threads"]
        images = workload(network["batch"], network["inputs"], network["truths"])[0]
        self.images = {"images": images.reshape(len(images), *network["shape"])}

    def facts(self):
        """Return what this program is."""
        return {"program": f"onnxruntime {onnxruntime.__version__}", "threads": self.threads}

    def step(self):
        """Predict."""
        self.session.run(self.names["ends"], self.images)

    def outputs(self):
        """Return the outputs of the layers that programs are compared by."""
        return self.session.run(self.names["compared"], self.images)
