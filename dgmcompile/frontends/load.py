"""``FILE[:NAME]``: a model out of a Python file, with its example inputs and, beside it, a student."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import inspect
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pyro
import torch

from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.frontends.libraries import is_library
from dgmcompile.frontends.modules import as_callable, behind, signature_of

MODEL, STUDENT, EXAMPLE_INPUTS = "model", "student", "example_inputs"
"""What the variables of a file are called, unless its user says otherwise."""


@dataclass(frozen=True)
class Program:
    """A model and the arguments that it is recorded with; ``student`` is what stands beside it, if anything."""

    model: Callable[..., Any]
    example_inputs: tuple[Any, ...]
    file: Path
    name: str
    student: Callable[..., Any] | None = None

    @property
    def title(self) -> str:
        """What its results are called: ``vae`` for ``vae.py``, ``vae_guide`` for ``vae.py:guide``."""
        return self.file.stem if self.name == MODEL else f"{self.file.stem}_{self.name.replace('.', '_')}"


def split_spec(spec: str) -> tuple[Path, str | None]:
    """``model.py:net`` -> (``model.py``, ``net``); the name is None where none is given."""
    file, separator, name = spec.rpartition(":")
    if separator and not Path(spec).is_file() and all(part.isidentifier() for part in name.split(".")):
        return Path(file), name
    return Path(spec), None


@dataclass
class Loader:
    """Takes programs out of files; each file runs once. See `loading`."""

    _folder: Path = field(default_factory=Path.cwd)
    _modules: dict[Path, ModuleType] = field(default_factory=dict[Path, ModuleType])
    _siblings: dict[str, Path] = field(default_factory=dict[str, Path])

    def program(self, spec: str) -> Program:
        """The model of ``FILE[:NAME]`` (``model`` unless named), its example inputs, and its student.

        Errors:
            `CompileError` for a missing file, a file that does not run, a name that it does not define, and
            example inputs that are missing, no tuple, or that do not fit the model.
        """
        file, given = self._split(spec)
        module, name = self._module(file), given or MODEL
        model = _attribute(module, name, file)
        inputs = _example_inputs(module, model, name, file)
        return Program(model, inputs, file, name, getattr(module, STUDENT, None) if name == MODEL else None)

    def student(self, spec: str) -> Callable[..., Any]:
        """That of ``FILE[:NAME]``: ``student`` unless named, else ``model``. It takes the teacher's inputs."""
        file, given = self._split(spec)
        module = self._module(file)
        return _attribute(module, given or (STUDENT if hasattr(module, STUDENT) else MODEL), file)

    def _split(self, spec: str) -> tuple[Path, str | None]:
        """The file's whole path, from where the loader was made: a program may change the working folder."""
        file, name = split_spec(spec)
        if not (whole := self._folder / file).is_file():
            raise CompileError(_no_file(file, "is a folder" if whole.is_dir() else "does not exist"))
        return whole, name

    def _module(self, file: Path) -> ModuleType:
        path = file.resolve()
        if path not in self._modules:
            self._modules[path] = self._run(file, path.parent)
        return self._modules[path]

    def _run(self, file: Path, folder: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"dgmcompile_program_{len(self._modules)}_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise CompileError(_no_file(Path(file.name), "is no Python file"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module
        self._let_import_from(folder)
        before = set(sys.modules)
        try:
            spec.loader.exec_module(module)
        except SyntaxError as error:
            raise CompileError(_syntax_error(error, file)) from error
        except CompileError:  # of a family that the file registers
            raise
        except (Exception, SystemExit) as error:
            raise CompileError(_raised("the file", error, f"python {file.name} must run without an error")) from error
        self._siblings.update(_found_in(folder, set(sys.modules) - before))
        return module

    def _let_import_from(self, folder: Path) -> None:
        """``folder`` first, as under ``python FILE``; of two folders' ``networks.py`` each program sees its own."""
        sys.path.insert(0, str(folder))
        for name, other in self._siblings.items():
            if other != folder:
                sys.modules.pop(name, None)


def _found_in(folder: Path, names: set[str]) -> dict[str, Path]:
    """Modules that were imported from ``folder``."""
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in names}
    return {name: folder for name, file in files.items() if file and folder in Path(file).resolve().parents}


@contextmanager
def loading() -> Iterator[Loader]:
    """A loader, for as long as its programs are run.

    What they print goes to standard error. In the end ``sys.path``, ``sys.modules``, the working folder, Pyro's
    parameter store, torch's random state and its default dtype are as they were.
    """
    tables = [(table, dict(table)) for table in _store_tables()]
    path, modules, folder, dtype = list(sys.path), dict(sys.modules), _working_folder(), torch.get_default_dtype()
    loader = Loader()
    try:
        with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(sys.stderr):
            yield loader
    finally:
        _forget(loader._siblings, modules)
        sys.path[:] = path
        torch.set_default_dtype(dtype)
        if folder:
            os.chdir(folder)
        for table, content in tables:
            table.clear()
            table.update(content)


def _store_tables() -> tuple[dict[Any, Any], ...]:
    store = pyro.get_param_store()
    return store._params, store._param_to_name, store._constraints


def _forget(siblings: Mapping[str, Path], before: Mapping[str, ModuleType]) -> None:
    """Modules of the programs' own folders are dropped; those of libraries may stay."""
    for name in (*siblings, *(name for name in sys.modules if name.startswith("dgmcompile_program_"))):
        sys.modules.pop(name, None)
    sys.modules.update({name: module for name, module in before.items() if name not in sys.modules})


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return ""


# what a file may get wrong


def _no_file(file: Path, what: str) -> Diagnostic:
    return Diagnostic(
        code="no-file",
        message=f"{str(file)!r} {what}",
        help="name a file that ends in .py, as model.py or model.py:net",
    )


def _syntax_error(error: SyntaxError, file: Path) -> Diagnostic:
    location = Location(error.filename or str(file), error.lineno or 1, error.offset or 1, error.end_offset)
    return Diagnostic(
        code="syntax-error",
        message=f"the file is no valid Python: {error.msg}",
        location=location,
        help="mend the syntax; python FILE shows the same error",
    )


def _raised(what: str, error: BaseException, help: str) -> Diagnostic:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not is_library(f.filename)]
    last = frames[-1] if frames else None
    where = None
    if last:
        end = (last.end_colno or 0) + 1 if last.end_lineno == last.lineno else None
        where = Location(last.filename, last.lineno or 1, (last.colno or 0) + 1, end)
    said = str(error).strip().splitlines()
    return Diagnostic(
        code="file-raised",
        message=f"{what} raised {type(error).__name__}{': ' + said[0] if said else ''}",
        location=where,
        help=help,
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
                    help=f"call the model `model`, or name it: {file.name}:{models[0] if models else 'NAME'}",
                )
            )
        value = as_callable(getattr(value, part))
    if inspect.isclass(value) or not callable(value):
        what = "class" if inspect.isclass(value) else f"{type(value).__name__}, which cannot be called"
        raise CompileError(
            Diagnostic(
                code="no-model",
                message=f"{name!r} in {file.name} is a {what}",
                location=_definition(name.partition(".")[0], file),
                help="a model is a function, a method or a module with sample sites; of a class, make an instance",
            )
        )
    return value


def _may_be_model(value: Any, module: ModuleType) -> bool:
    defined = getattr(value, "__module__", None) == module.__name__
    is_module = hasattr(value, "forward") or type(value).__name__ == "ExportedProgram"
    return callable(value) and not inspect.isclass(value) and (defined or is_module)


def _example_inputs(module: ModuleType, model: Callable[..., Any], name: str, file: Path) -> tuple[Any, ...]:
    """Those of the file; of the model alone, where they are a dict by its models' names."""
    given, wanted = getattr(module, EXAMPLE_INPUTS, None), EXAMPLE_INPUTS
    if isinstance(given, dict):
        given, wanted = given.get(name), f"{EXAMPLE_INPUTS}[{name!r}]"
    where = _definition(EXAMPLE_INPUTS, file)
    if callable(given):
        try:
            given = given()
        except (Exception, SystemExit) as error:
            help = f"{EXAMPLE_INPUTS}() must return a tuple with one entry per argument"
            raise CompileError(_raised(EXAMPLE_INPUTS, error, help)) from error
    needed = [p.name for p in signature_of(model).parameters.values() if _is_required(p)]
    if given is None and needed:
        raise CompileError(
            Diagnostic(
                code="no-example-inputs",
                message=f"the model takes {', '.join(needed)}, and {file.name} defines no {wanted}",
                location=_definition_of(model),
                help=f"add a tuple with one entry per argument: {wanted} = ({', '.join(needed)},)",
            )
        )
    if given is not None and not isinstance(given, tuple):
        raise CompileError(
            Diagnostic(
                code="example-inputs",
                message=f"{EXAMPLE_INPUTS} is a {type(given).__name__}, not a tuple",
                location=where,
                help=f"write {EXAMPLE_INPUTS} = (x,), or a function that returns such a tuple",
            )
        )
    _refuse_other_arguments(model, given or (), where)
    return given or ()


def _refuse_other_arguments(model: Callable[..., Any], given: tuple[Any, ...], where: Location | None) -> None:
    signature = signature_of(model)
    try:
        signature.bind(*given)
    except TypeError as error:
        raise CompileError(
            Diagnostic(
                code="example-inputs",
                message=f"{EXAMPLE_INPUTS} has {len(given)} {'entry' if len(given) == 1 else 'entries'}, which do not "
                f"fit the model: {error}",
                location=where,
                notes=(f"the model is called as {signature}",),
                help="give a tuple with one entry per argument",
            )
        ) from None


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


# where it stands


def _definition(name: str, file: Path) -> Location | None:
    """The statement at the top of the file that defines ``name``."""
    source = "".join(linecache.getlines(str(file)))
    for node in ast.parse(source).body if source else ():
        match node:
            case ast.Assign(targets=targets):
                defined = [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=one)) | ast.FunctionDef(name=one) | ast.ClassDef(name=one):
                defined = [one]
            case _:
                continue
        if name in defined:
            return Location(str(file), node.lineno)
    return None


def _definition_of(model: Any) -> Location | None:
    """Where the function, or the module's ``forward``, is defined."""
    model = behind(model)
    function = inspect.unwrap(getattr(model, "forward", model))
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return Location(code.co_filename, code.co_firstlineno) if code and not is_library(code.co_filename) else None
