"""Whose code it is that runs: the user's, a library's, or this package's."""

from __future__ import annotations

import linecache
import os
import sysconfig
from functools import cache
from types import FrameType

import pyro
import torch


def _folder(file: str | None) -> str:
    return os.path.join(os.path.dirname(os.path.abspath(file or "")), "")


_PACKAGE = _folder(os.path.dirname(__file__))
_LIBRARIES = (_PACKAGE, _folder(torch.__file__), _folder(pyro.__file__))
_CALLERS = tuple(
    os.path.join(_PACKAGE, *path)
    for path in (("frontends", "trace.py"), ("replay", "__init__.py"), ("replay", "original.py"))
)
"""What runs a model."""
_STANDARD_LIBRARY = _folder(os.__file__)
_DISPATCH = tuple(os.path.join("torch", name) for name in ("_tensor.py", "overrides.py", "_ops.py"))
_SITE_PACKAGES = tuple(
    os.path.join(folder, "")
    for folder in (os.path.join(_STANDARD_LIBRARY, "site-packages"), *map(sysconfig.get_path, ("purelib", "platlib")))
)
"""Those of the interpreter, and those of the environment that it runs in."""


def is_users(file: str) -> bool:
    """Is it the user's own, and no package's that is installed?"""
    return not is_library(file) and not os.path.abspath(file).startswith(_SITE_PACKAGES)


def is_recording(frame: FrameType) -> bool:
    """Is it where this package runs the model?"""
    return frame.f_code.co_filename in _CALLERS


@cache
def is_library(file: str) -> bool:
    if file.startswith("<") and not linecache.getlines(file):
        return True
    path = os.path.abspath(file)
    if path.startswith(_LIBRARIES):
        return True
    return path.startswith(_STANDARD_LIBRARY) and not path.startswith(_SITE_PACKAGES)


def is_dispatch(file: str) -> bool:
    """Is it this package's, or torch's way from a call to it?"""
    return file.startswith(_PACKAGE) or file.endswith(_DISPATCH)


def in_torch_or_pyro(frame: FrameType | None) -> bool:
    """Is it code of the two libraries themselves?"""
    return frame is not None and os.path.abspath(frame.f_code.co_filename).startswith(_LIBRARIES)
