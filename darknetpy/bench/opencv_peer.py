"""OpenCV's importer of Darknet's files as a program of the benchmark: inference only, the heads decode boxes too."""
from __future__ import annotations

import os

import cv2


class Unsupported(Exception):
    """This OpenCV, or its importer, cannot run the network."""


class Program:
    """The network that OpenCV reads from the .cfg and the .weights file, with one mini-batch."""

    def __init__(self, job, workload):
        if not hasattr(cv2.dnn, "readNetFromDarknet"):
            raise Unsupported(f"OpenCV {cv2.__version__} reads no Darknet files, before 5 it does")
        cv2.setNumThreads(job["threads"])
        network = job["network"]
        self.net = cv2.dnn.readNetFromDarknet(job["cfg"], os.path.join(job["folder"], "network.weights"))
        self.ends = self.net.getUnconnectedOutLayersNames()
        known = self.net.getLayerNames()
        self.results = [f"conv_{i}" if f"conv_{i}" in known else self.ends[-1] for i in network["compared"]]
        images = workload(network["batch"], network["inputs"], network["truths"])[0]
        self.images = images.reshape(len(images), *network["shape"])

    def facts(self):
        """Return what this program is."""
        return {"program": f"OpenCV {cv2.__version__}", "threads": cv2.getNumThreads()}

    def step(self):
        """Predict."""
        self.net.setInput(self.images)
        self.net.forward(self.ends)

    def outputs(self):
        """Return the outputs of the layers that programs are compared by."""
        self.net.setInput(self.images)
        return self.net.forward(self.results)
