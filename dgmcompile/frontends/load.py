"""``FILE[:NAME]``: a model out of a Python file, with its example inputs and, beside it, a student."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.frontends.modules import signature_of
from dgmcompile.frontends.source import is_library


@dataclass(frozen=True)
class Program:
    """A model and the arguments that it is recorded with."""

    model: Callable[..., Any]
    example_inputs: tuple[Any, ...]
    file: Path
    name: str
    student: Callable[..., Any] | None = None


def split_spec(spec: str) -> tuple[Path, str]:
    """``model.py:net`` -> (``model.py``, ``net``); the name is ``model`` unless given."""
    file, separator, name = spec.rpartition(":")
    if separator and name.replace(".", "_").isidentifier():
        return Path(file), name
    return Path(spec), "model"


def load(spec: str) -> Program:
    """Run the file and take the model out of it; what the file prints goes to standard error.

    Errors:
        `CompileError` for a missing file, a file that does not run, a name that it does not define, and
        example inputs that are missing or no tuple.
    """
    file, name = split_spec(spec)
    module = _module(file)
    model = _attribute(module, name, file)
    return Program(model, _example_inputs(module, model, file), file, name, getattr(module, "student", None))


def _module(file: Path) -> ModuleType:
    if not file.is_file():
        raise CompileError(
            Diagnostic(
                code="no-file",
                message=f"there is no file {str(file)!r}",
                help="name a Python file, as model.py or model.py:net",
            )
        )
    loader = importlib.util.spec_from_file_location(_module_name(file), file)
    if loader is None or loader.loader is None:
        raise CompileError(
            Diagnostic(code="no-file", message=f"{str(file)!r} is no Python file", help="name a file that ends in .py")
        )
    module = importlib.util.module_from_spec(loader)
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(file.resolve().parent))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            loader.loader.exec_module(module)
    except SyntaxError as error:
        raise CompileError(_syntax_error(error, file)) from error
    except Exception as error:
        raise CompileError(_import_error(error, file)) from error
    finally:
        sys.path.remove(str(file.resolve().parent))
    return module


def _module_name(file: Path) -> str:
    return f"dgmcompile_program_{abs(hash(file.resolve()))}_{file.stem}"


def _syntax_error(error: SyntaxError, file: Path) -> Diagnostic:
    location = Location(error.filename or str(file), error.lineno or 1, error.offset or 1, error.end_offset)
    return Diagnostic(
        code="syntax-error",
        message=f"the file is no valid Python: {error.msg}",
        location=location,
        help="mend the syntax; python FILE shows the same error",
    )


def _import_error(error: Exception, file: Path) -> Diagnostic:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not is_library(f.filename)]
    last = frames[-1] if frames else None
    where = (
        Location(last.filename, last.lineno or 1, (last.colno or 0) + 1, (last.end_colno or 0) + 1) if last else None
    )
    return Diagnostic(
        code="file-raised",
        message=f"the file raised {type(error).__name__}: {error}",
        location=where,
        help=f"python {file.name} must run without an error",
    )


def _attribute(module: ModuleType, name: str, file: Path) -> Callable[..., Any]:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            models = [n for n, v in vars(module).items() if _may_be_model(v, module)]
            raise CompileError(
                Diagnostic(
                    code="no-model",
                    message=f"{file.name} defines no {name!r}",
                    notes=(f"it defines {', '.join(models)}",) if models else (),
                    help="call the model `model`, or name it: FILE:NAME",
                )
            )
        value = getattr(value, part)
    if not callable(value):
        raise CompileError(
            Diagnostic(
                code="no-model",
                message=f"{name!r} in {file.name} is a {type(value).__name__}, which cannot be called",
                help="a model is a function, a method or a module with sample sites",
            )
        )
    return value


def _may_be_model(value: Any, module: ModuleType) -> bool:
    defined = getattr(value, "__module__", None) == module.__name__
    return callable(value) and not inspect.isclass(value) and (defined or hasattr(value, "forward"))


def _example_inputs(module: ModuleType, model: Callable[..., Any], file: Path) -> tuple[Any, ...]:
    given = getattr(module, "example_inputs", None)
    if callable(given):
        given = given()
    if given is None:
        needed = [p.name for p in signature_of(model).parameters.values() if _is_required(p)]
        if needed:
            raise CompileError(
                Diagnostic(
                    code="no-example-inputs",
                    message=f"the model takes {', '.join(needed)}, and {file.name} defines no example_inputs",
                    help=f"add a tuple with one entry per argument: example_inputs = ({', '.join(needed)},)",
                )
            )
        return ()
    if not isinstance(given, tuple):
        raise CompileError(
            Diagnostic(
                code="example-inputs",
                message=f"example_inputs is a {type(given).__name__}, not a tuple",
                help="write example_inputs = (x,), or a function that returns such a tuple",
            )
        )
    return given


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )
