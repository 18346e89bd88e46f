"""Builds the C core as darknetpy._darknet, and its float64 twin for gradient checks; all else stands in pyproject.toml.

One wheel for every Python from 3.9 on.
"""
from setuptools import setup

setup(cffi_modules=["darknetpy/_build_ffi.py:ffi", "darknetpy/_build_ffi.py:ffi_double"],
      options={"bdist_wheel": {"py_limited_api": "cp39"}})
