"""What the style guide promises of the tree, and that nothing is without a test."""

from __future__ import annotations

import glob
import importlib
import inspect
import os
import re

import gradcheck
import pytest
from activations import ACTIVATIONS, ELEMENTWISE, LAYERS, MIXING, names_of
from twin import CSRC, ROOT

import darknetpy as dn

TESTS = os.path.dirname(os.path.abspath(__file__))
SOURCES = sorted(glob.glob(os.path.join(CSRC, "*.[ch]")) + glob.glob(os.path.join(CSRC, "*.def")))
PYTHON = sorted(
    glob.glob(os.path.join(ROOT, "darknetpy", "**", "*.py"), recursive=True)
    + glob.glob(os.path.join(TESTS, "*.py"))
)


def _text(path):
    with open(path) as file:
        return file.read()


def _code(path):
    """The C text without comments and strings."""
    return re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\])*"', " ", _text(path), flags=re.DOTALL)


def gradient_cases():
    """All cases of all test files."""
    modules = [
        importlib.import_module(os.path.basename(path)[:-3])
        for path in sorted(glob.glob(os.path.join(TESTS, "test_*_layer*.py")))
    ]
    return [case for module in modules for case in getattr(module, "GRADIENT_CASES", [])]


def test_every_kernel_is_tested():
    import reference
    from kernel_calls import KERNELS
    from test_kernels import CASES

    assert len(KERNELS) == len(names_of("kernels.def", "KERNEL"))
    tested = {name for name, _ in CASES} | {
        "gemm",
        *(name for name in KERNELS if name.startswith("convolution_")),
    }
    assert set(KERNELS) <= tested, sorted(set(KERNELS) - tested)
    assert all(hasattr(reference, name) for name in KERNELS)


def test_every_layer_type_has_a_gradient_check():
    assert set(LAYERS) <= {kind for kind, _, _ in gradcheck.subjects(gradient_cases())}


def test_every_activation_has_a_gradient_check_wherever_it_can_stand():
    found = gradcheck.subjects(gradient_cases())
    for name in ACTIVATIONS:
        for kind, normalized in (
            ("convolutional", False),
            ("convolutional", True),
            ("activation", False),
            ("shortcut", False),
        ):
            assert (kind, name, normalized) in found, f"[{kind}] {name}, batch_normalize={normalized:d}"
    for name in ELEMENTWISE:
        assert ("connected", name, False) in found and ("connected", name, True) in found, (
            f"[connected] {name}"
        )
    assert set(ELEMENTWISE) | set(MIXING) == set(ACTIVATIONS)


def test_every_cost_type_has_a_gradient_check():
    from darknetpy.builder import _COST_TYPES

    lines = " ".join(line for case in gradient_cases() for line in case.layers)
    assert all(f"type={kind}" in lines for kind in _COST_TYPES)


@pytest.mark.parametrize("path", SOURCES, ids=os.path.basename)
def test_core_neither_prints_nor_ends_the_process(path):
    found = re.findall(
        r"\b(v?f?printf|puts|perror|exit|abort|_Exit|system|popen|gets|strcpy|strcat|v?sprintf)\s*\(",
        _code(path),
    )
    assert not found, found


@pytest.mark.parametrize("path", SOURCES + PYTHON, ids=lambda path: os.path.relpath(path, ROOT))
def test_files_stay_readable(path):
    assert _text(path).count("\n") <= 600


def test_kernel_names_are_written_in_full():
    """grep finds each CPU function by the name that kernels.def gives it."""
    from kernel_calls import KERNELS

    text = "\n".join(_text(path) for path in SOURCES if path.endswith(".c"))
    assert [name for name in KERNELS if not re.search(rf"^\S.*\b{name}\(", text, re.MULTILINE)] == []


def test_public_names():
    names = [
        "Network",
        "load_network",
        "load_checkpoint",
        "set_num_threads",
        "get_num_threads",
        "kernels",
        "update_layer",
        "DarknetError",
        "ArgumentError",
        "CfgError",
        "WeightsError",
        "DataError",
        "DeviceError",
        "OutOfMemory",
    ]
    names += [
        f"{verb}_{kind}_layer"
        for kind in LAYERS
        for verb in ("make", "forward", "backward", "update", "resize")
    ]
    assert [name for name in names if not hasattr(dn, name)] == []
    assert [name for name in names if name not in dn.__all__] == []


TYPED = (
    "layers passes layer network kernels builder threads weights checkpoint errors cfg dialects sections data".split()
)


def _public_functions(module):
    """Yield (name, function) of what a module or package offers, methods and properties included."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
    ]
    for name in names:
        value = getattr(module, name)
        if inspect.isfunction(value):
            yield name, value
        for key, member in vars(value).items() if inspect.isclass(value) else ():
            function = getattr(member, "__func__", member)
            inner = [function.fget, function.fset] if isinstance(member, property) else [function]
            for part in filter(inspect.isfunction, inner):
                written = part.__code__.co_filename.startswith(os.path.dirname(dn.__file__))
                if written and (not key.startswith("_") or key in ("__init__", "__getitem__", "__getattr__")):
                    yield f"{name}.{key}", part


@pytest.mark.parametrize("name", ["", *TYPED])
def test_public_functions_are_annotated(name):
    module = importlib.import_module(f"darknetpy.{name}".rstrip("."))
    functions = dict(_public_functions(module))
    bare = [
        f"{title}: {key}"
        for title, function in functions.items()
        for key in [*inspect.signature(function).parameters, "return"]
        if key not in function.__annotations__ and key not in ("self", "cls")
    ]
    assert functions and not bare, bare


def test_checkers_see_every_pass():
    """They read names that are assigned in the file, not those that only come to be when it runs."""
    text = _text(dn.passes.__file__)
    assert [name for name in dn.passes.__all__ if not re.search(rf"^(def | ?\(?(\w+, )*){name}\b", text, re.M)] == []


def test_named_kernels_are_public():
    for name in (
        "mean_cpu",
        "variance_cpu",
        "normalize_cpu",
        "scale_bias",
        "add_bias",
        "backward_bias",
        "backward_scale_cpu",
        "mean_delta_cpu",
        "variance_delta_cpu",
        "normalize_delta_cpu",
        "gemm",
        "im2col_cpu",
        "col2im_cpu",
    ):
        assert callable(getattr(dn.kernels, name)) and getattr(dn.kernels, name).__doc__
