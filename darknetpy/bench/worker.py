"""One program of a benchmark in its own process: ``python worker.py PROGRAM JOB.json``.

It answers lines of JSON on its standard input with lines of JSON; whatever the program itself prints goes to standard error.
Run by path, so that neither darknetpy nor its OpenMP runtime and BLAS are loaded beside a peer's.
"""
from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from functools import partial

import numpy as np

_SETTLING = .005    # seconds, in which threads of the program before stop spinning
_SHARE = .1         # of a turn's seconds, for which calls that only begin their work go on without a wait


def workload(batch, inputs, truths, box=None):
    """Return images (batch, inputs) in [0, 1), labels (batch,) and the truth (batch, truths).

    A row of the truth has a one, at the label; or with ``box``, the values of a box and the number of classes, the boxes
    of eight objects (centre, size, class), whose centres are a tenth of the image apart.
    """
    rng = np.random.default_rng(20)
    images = rng.random((batch, inputs), np.float32)
    labels = rng.integers(0, max(truths, 1), batch)
    truth = np.zeros((batch, max(truths, 1)), np.float32)
    if not box:
        truth[np.arange(batch), labels] = 1
        return images, labels, truth
    corners = np.stack(np.meshgrid(np.arange(4) / 4, np.arange(2) / 2), -1).reshape(-1, 2)
    rows = truth.reshape(batch, -1, box[0])[:, :len(corners)]
    corners = corners[:rows.shape[1]]
    rows[..., :2] = corners + rng.uniform(.05, .2, (batch, *corners.shape))
    rows[..., 2:4] = rng.uniform(.03, .6, (batch, *corners.shape))
    rows[..., 4] = rng.integers(0, box[1], rows.shape[:2])
    return images, labels, truth


def peak_bytes():
    """Return this process's largest resident size; getrusage would include the parent's from before the exec."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmHWM"].split()[0]) * 1024


def wait_of(program):
    """Return what waits until all that a program began on a device is done; None: its calls wait themselves."""
    return getattr(program, "wait", None)


def run_steps(program, seconds, least):
    """Run steps for about `seconds`, at least `least`; return how many and how long they took."""
    steps, start = 0, time.perf_counter()
    while steps < least or time.perf_counter() - start < seconds:
        program.step()
        steps += 1
    if wait := wait_of(program):
        wait()
    return {"steps": steps, "seconds": time.perf_counter() - start}


def differences(program, job):
    """Return how far darknetpy's numbers lie from a program's.

    Returns
    -------
    dict
        ``output``: largest difference of the results, each in units of its largest value.  In training also
        what a program says of gradients.
    """
    found = []
    for index, theirs in zip(job["network"]["compared"], program.outputs()):
        expected = job["arrays"][f"{index}.output"].ravel()
        found.append(float(np.abs(np.ravel(theirs) - expected).max() / np.abs(expected).max()))
    gradients = program.gradients() if job["train"] and hasattr(program, "gradients") else {}
    return {"output": max(found), **gradients}


def time_parts(parts, rounds, before, wait=None, marks=None):
    """Return the least seconds of each part in `rounds` rounds, after one that does not count.

    Parameters
    ----------
    parts : list of callable
        Run in order; each is timed alone.
    rounds : int
    before : callable
        Starts every round; not timed.
    wait : callable, optional
        Ends every part: see :func:`wait_of`.
    marks : callable, optional
        Makes so many marks of a device's clock, which then times the parts, begun one after the other without a wait.
    """
    times = np.zeros((rounds + 1, len(parts)))
    if marks:
        return _time_by_marks(parts, times, before, marks(len(parts) + 1))
    for row in times:
        before()
        if wait:
            wait()
        for i, part in enumerate(parts):
            start = time.perf_counter()
            part()
            if wait:
                wait()
            row[i] = time.perf_counter() - start
    return times[1:].min(axis=0)


def _time_by_marks(parts, times, before, marks):
    for row in times:
        before()
        marks.set(0)
        for i, part in enumerate(parts):
            part()
            marks.set(i + 1)
        row[:] = marks.seconds()
    marks.free()
    return times[1:].min(axis=0)


# ---- bench kernels
def tensors(shape):
    """Return x and delta of a shape, standard normal."""
    rng = np.random.default_rng(20)
    return rng.standard_normal(shape, np.float32), rng.standard_normal(shape, np.float32)


def named_arguments(x, delta):
    """Return name -> arguments of Darknet's functions; those that work in place leave their array nearly as it is."""
    batch, c, h, w = x.shape
    sizes = (batch, c, h * w)
    zeros, ones, sums, work = (*(np.full(c, value, np.float32) for value in (0, 1, 0)), delta.copy())
    return {
        "mean_cpu": (x, *sizes, sums),
        "variance_cpu": (x, zeros, *sizes, sums),
        "normalize_cpu": (work, zeros, ones, *sizes),
        "scale_bias": (work, ones, *sizes),
        "add_bias": (work, zeros, *sizes),
        "backward_bias": (sums, delta, *sizes),
        "backward_scale_cpu": (x, delta, *sizes, sums),
        "mean_delta_cpu": (delta, ones, *sizes, sums),
        "variance_delta_cpu": (x, delta, zeros, ones, *sizes, sums),
        "normalize_delta_cpu": (x, zeros, ones, zeros, zeros, *sizes, work),
    }


def prepare(program, shape, layers, groups):
    """Let a program make its layers for a shape; return the forms that it can time."""
    x, delta = tensors(shape)
    return program.prepare(x, delta, named_arguments(x, delta), layers, groups)


def time_call(call, seconds):
    """Repeat a call for about `seconds`; return its median time."""
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def time_queued(call, seconds, wait):
    """Repeat a call that only begins its work, so often between two waits that these weigh little; return its median time."""
    calls, times, end = 1, [], time.perf_counter() + seconds
    wait()
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        took = time.perf_counter() - start
        times.append(took / calls)
        if took < seconds * _SHARE:     # the waits still count: more calls, and only they
            calls, times = 2 * calls, times if time.perf_counter() >= end else []
    return float(np.median(times))


def save_numbers(program, given, path, **request):
    """Let a program compute from the arrays of one .npz file; save what it found in another."""
    with np.load(given) as arrays:
        np.savez(path, **program.numbers(given=dict(arrays), **request))


def timer(program):
    """Return what times a call of a program for some seconds."""
    wait = wait_of(program)
    return partial(time_queued, wait=wait) if wait else time_call


def answer(program, job, request):
    """Return the reply to one request."""
    command = request.pop("command")
    if command == "check":
        return differences(program, job)
    if command == "prepare":
        return prepare(program, **request)
    if command == "time":
        if request["threads"]:      # 0: a device has its own
            program.set_threads(request["threads"])
        time.sleep(_SETTLING)
        return timer(program)(program.calls[request["form"]], request["seconds"])
    if command == "bandwidth":
        return program.bandwidth(time_call=timer(program), **request)
    if command == "numbers":
        return save_numbers(program, **request)
    if command == "steps":
        return run_steps(program, **request)
    if command == "layers":
        return program.layers(partial(time_parts, wait=wait_of(program), marks=getattr(program, "marks", None)), **request)
    if command == "peak":
        return {"bytes": peak_bytes(), "device": program.device_bytes() if wait_of(program) else None}
    return getattr(program, command)(**request)


def read_job(path):
    """Return a job, with the ``network`` to build and its ``arrays`` once darknetpy has written them down."""
    with open(path) as file:
        job = json.load(file)
    written = os.path.join(job.get("folder", ""), "network.json")
    if os.path.exists(written):
        with open(written) as file:
            job["network"] = json.load(file)
        job["arrays"] = np.load(os.path.join(job["folder"], "arrays.npz"))
    return job


def main(name, job_path):
    """Make the program and answer requests until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    job = read_job(job_path)
    before = peak_bytes()
    program = getattr(module, job.get("program", "Program"))(job, workload)
    print(json.dumps({**program.facts(), "bytes_before": before}), file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(program, job, json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    sys.path.append(sys.path.pop(0))     # this folder last: a program finds its other file, and nobody else's is hidden
    main(*sys.argv[1:])
