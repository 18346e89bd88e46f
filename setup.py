"""Builds the C core as darknetpy._darknet, one wheel for every Python from 3.9 on; all else stands in pyproject.toml."""
from setuptools import setup

setup(cffi_modules=["darknetpy/_build_ffi.py:ffi"], options={"bdist_wheel": {"py_limited_api": "cp39"}})
