"""NVIDIA's cuBLASLt and cuDNN for the kernels of a GPU: found where they are installed, opened through cffi, handed over.

Nothing links against them and nothing needs them.  The environment's ``DARKNETPY_GPU_LIBRARIES`` says which may be used: ``all``
(the default), ``none``, ``cublas`` or ``cudnn``.
"""
from __future__ import annotations

import functools
import glob
import importlib.util
import os
from typing import Any, Callable, NamedTuple, Optional

from darknetpy.errors import DeviceError

VARIABLE = "DARKNETPY_GPU_LIBRARIES"
_NOW = 2                # RTLD_NOW: what a library lacks is known when it is opened


class Library(NamedTuple):
    """What is known of a library before it is found.

    Attributes
    ----------
    name, title : str
        In `DARKNETPY_GPU_LIBRARIES`, and as NVIDIA writes it.
    files : tuple of str
        Its names, the best first.
    version : str
        The function that returns ten thousand times its main version and the rest.
    oldest : int
        The main version from which on it will do.
    package : str
        The PyPI wheel that brings it.
    limits : tuple of (str, float)
        The fields of its table that are no functions: bytes of workspace at most; the multiplications from which on a product is
        given to it.
    """

    name: str
    title: str
    files: tuple[str, ...]
    version: str
    oldest: int
    package: str
    limits: tuple[tuple[str, float], ...]


LIBRARIES = (
    Library("cublas", "cuBLASLt", ("libcublasLt.so.13", "libcublasLt.so.12"), "cublasLtGetVersion", 12, "nvidia-cublas",
            (("most_workspace", 32 << 20), ("least_work", 64.0**3))),
    Library("cudnn", "cuDNN", ("libcudnn.so.9",), "cudnnGetVersion", 9, "nvidia-cudnn-cu13", (("most_workspace", 256 << 20),)),
)


class Opened(NamedTuple):
    """A library that has been opened, and will stay so.

    Attributes
    ----------
    library : Library
    path, version : str
        Its file, and ``"9.28.0"``, say.
    handle : cdata
        The dynamic linker's.
    """

    library: Library
    path: str
    version: str
    handle: Any

    def __str__(self) -> str:
        return f"{self.library.title} {self.version} ({self.path})"


@functools.cache
def _linker():
    """Return the dynamic linker's functions; cffi's own dlopen would run a compiler to find a library that is not there."""
    import cffi  # here: what has no GPU starts without it

    ffi = cffi.FFI()
    ffi.cdef("""
        void *dlopen(const char *path, int flags);
        void *dlsym(void *handle, const char *name);
        char *dlerror(void);
        typedef struct { const char *path; void *base; const char *name; void *address; } place;
        int dladdr(const void *address, place *found);
    """)
    linker = ffi.dlopen(None)
    linker.dlerror()    # cffi looks a name up at its first use, by which the linker forgets its last error
    return ffi, linker


def _address(handle, name):
    ffi, linker = _linker()
    address = linker.dlsym(handle, name.encode())
    if address == ffi.NULL:
        raise DeviceError(f"it has no function {name}")
    return address


def open_library(library: Library, path: str) -> Optional[Opened]:
    """Open a library by its path, or by its name as the dynamic linker finds it; None: it is not there.

    Raises
    ------
    DeviceError
        It cannot be opened, is none, or is too old.
    """
    ffi, linker = _linker()
    handle = linker.dlopen(path.encode(), _NOW)
    if handle == ffi.NULL:
        why = ffi.string(linker.dlerror()).decode(errors="replace")
        if why.startswith(f"{path}: cannot open shared object file: No such file"):
            return None
        raise DeviceError(f"{library.title} cannot be opened: {why}")
    try:
        address = _address(handle, library.version)
    except DeviceError as error:
        raise DeviceError(f"{path} is no {library.title}: {error}") from None
    place = ffi.new("place *")
    if linker.dladdr(address, place):
        path = ffi.string(place.path).decode(errors="replace")
    number = int(ffi.cast("size_t (*)(void)", address)())
    version = f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    if number // 10000 < library.oldest:
        raise DeviceError(f"{library.title} {version} ({path}) is too old: wanted {library.oldest}.0 or a later one")
    return Opened(library, path, version, handle)


def _wheels(file):
    """Return where installed wheels have a file: nvidia/cu13/lib, nvidia/cudnn/lib, nvidia/cublas/lib."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations or () if spec else ()
    return sorted(path for folder in folders for path in glob.glob(os.path.join(glob.escape(folder), "*", "lib", file)))


def find(library: Library, use: Callable[[Opened], None] = lambda opened: None) -> tuple[Optional[Opened], Optional[str]]:
    """Look for a library: each of its names first as the system has it, then in installed wheels.

    Parameters
    ----------
    library : Library
    use : callable
        Called with one that has been opened; DeviceError: it cannot be used, and the next one is looked for.

    Returns
    -------
    opened : Opened or None
    problem : str or None
        Where there is none that can be used: what is wrong with the first that was found.
    """
    problem = None
    for file in library.files:
        for path in (file, *_wheels(file)):
            try:
                opened = open_library(library, path)
                if opened:
                    use(opened)
                    return opened, None
            except DeviceError as error:
                problem = problem or str(error)
    return None, problem


def wanted() -> set[str]:
    """Return the names of the libraries that may be used.

    Raises
    ------
    DeviceError
        The environment's wish is none of those that there are.
    """
    text = os.environ.get(VARIABLE) or "all"
    choices = {"all": {"cublas", "cudnn"}, "none": set(), "cublas": {"cublas"}, "cudnn": {"cudnn"}}
    if text not in choices:
        raise DeviceError(f"{VARIABLE}={text}: wanted {', '.join(choices)}")
    return choices[text]


@functools.cache
def table(module: Any, opened: Opened) -> Any:
    """Return a library's functions as the kernels of a CUDA module want them; kept for good, as they use it.

    Raises
    ------
    DeviceError
        One of them is missing.
    """
    ffi = module.ffi
    found = ffi.new(f"dn_{opened.library.name} *")
    for name, field in ffi.typeof(found).item.fields:
        if field.type.kind == "function":
            try:
                address = _address(opened.handle, name)
            except DeviceError as error:
                raise DeviceError(f"{opened} cannot be used: {error}") from None
            setattr(found, name, ffi.cast(field.type, int(_linker()[0].cast("uintptr_t", address))))
        else:
            setattr(found, name, dict(opened.library.limits)[name])
    return found


def hand_over(module: Any, opened: Opened) -> None:
    """Let the kernels of the calling thread's GPU use a library.

    Raises
    ------
    DeviceError
        It does not work there; our own kernels go on.
    """
    functions = table(module, opened)
    if getattr(module.lib, f"dn_gpu_use_{opened.library.name}")(functions):
        raise DeviceError(f"{opened} cannot be used: {module.ffi.string(module.lib.dn_gpu_last_error()).decode(errors='replace')}")


def use_all(module: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find the libraries that may be used and let the kernels of the calling thread's GPU use them.

    Returns
    -------
    used : tuple of str
        What they are: title, version, file.
    problems : tuple of str
        What was found and cannot be used, and why, one line each.

    Raises
    ------
    DeviceError
        The environment's wish is none of those that there are.
    """
    allowed, used, problems = wanted(), [], []
    for library in LIBRARIES:
        if library.name not in allowed:
            continue
        opened, problem = find(library, functools.partial(hand_over, module))
        if opened:
            used.append(str(opened))
        if problem:
            problems.append(f"{problem}; our own kernels are used")
    return tuple(used), tuple(problems)


def describe() -> dict[str, str]:
    """Return what there is of each library, for `darknetpy info`; neither a GPU nor a driver is needed to look."""
    try:
        allowed = wanted()
    except DeviceError as error:
        return {library.name: str(error) for library in LIBRARIES}
    found = {}
    for library in LIBRARIES:
        opened, problem = find(library) if library.name in allowed else (None, f"turned off by {VARIABLE}")
        found[library.name] = str(opened) if opened else problem or f"not found (pip install {library.package})"
    return found
