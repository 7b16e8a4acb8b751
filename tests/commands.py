"""Whether a command that a document names would start: its program is there, its options parse, its files exist.

Nothing is computed: configurations are loaded, argparse's programs are stopped when they have parsed, make only says
what it would do, and that is looked at in the same way.
"""

import ast
import contextlib
import importlib.util
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from documents import ROOT
from installed import SCRIPTS, Refused, environment, installed, provided, there
from torch.distributed.run import get_args_parser

from videopolicy import config
from videopolicy.config import load

Words = tuple[str, ...]
FOLDERS = ("eval", "robot", "videopolicy", "train_stages", "bench")
OURS = (*FOLDERS, "faults")
STAND_INS = {"N": "8", "<date>": "20260101", "my.yaml": "configs/robot_so100.yaml"}  # what a reader fills in


class Parsed(Exception):
    """argparse is done; the program would begin."""

    def __init__(self, parser: ArgumentParser, values: Namespace) -> None:
        super().__init__()
        self.parser, self.values = parser, values


def words_of(text: str) -> Words:
    return tuple(STAND_INS.get(word, word) for word in shlex.split(text, comments=True))


def check(text: str, whole: bool = True) -> None:
    """Raises `Refused`. `whole` is false of what prose names, where a program alone is its name."""
    for part in _parts(words_of(text)):
        _check(part, whole)


def _parts(words: Words) -> Iterator[Words]:
    """Commands of a line, one after the other."""
    part: list[str] = []
    for word in (*words, ";"):
        if word in ("&&", "||", ";", "|"):
            yield tuple(part)
            part = []
        else:
            part.append(word)


def _bare(words: Words) -> Words:
    """Without the variables that are set before it."""
    return words[1:] and _bare(words[1:]) if words and re.match(r"[A-Z_]+=", words[0]) else words


@cache
def _check(words: Words, whole: bool) -> None:
    words = _bare(words)
    if not words:
        return
    program, *rest = words
    name = Path(program).name
    if name in ("python", "python3.11") and rest and not rest[0].startswith("-"):
        script(rest[0], tuple(rest[1:]))
    elif name in ("python", "python3.11") and rest[:1] == ["-m"] and len(rest) > 1:
        module(rest[1], tuple(rest[2:]), whole)
    elif name == "accelerate" and rest[:1] == ["launch"]:
        with _named():
            launched = launch_command_parser().parse_args(rest[1:])
        for path in filter(None, [launched.config_file]):
            there(path)
        script(launched.training_script, tuple(launched.training_script_args))
    elif name == "make":
        made(tuple(rest))
    elif name == "pip" and rest[:1] == ["install"]:
        installed(tuple(rest[1:]))
    elif name == "conda":
        environment(tuple(rest))
    elif name == "cp" or words == ("source", ".venv/bin/activate"):
        pass  # of what a command before it has made
    elif name in SCRIPTS:
        provided(name)
    else:
        raise Refused(f"no rule of tests/commands.py covers {name!r}; add how it is checked")


def script(path: str, args: Words) -> None:
    """A stage, by its file."""
    there(path)
    if path.startswith("scripts/"):
        return
    module(path.removesuffix(".py").replace("/", "."), args, whole=True)


def module(name: str, args: Words, whole: bool) -> None:
    """`python -m name args`."""
    if not args and not whole:
        if importlib.util.find_spec(name) is None:
            raise Refused(f"there is no module {name}")
    elif name == "torch.distributed.run":
        with _named():
            launched = get_args_parser().parse_args(args)
        rest = tuple(word for word in launched.training_script_args if word != "--")
        script(*(launched.training_script, rest) if launched.training_script != "--" else (rest[0], rest[1:]))
    elif name == "pytest":
        for word in args:
            if word.startswith("tests/") and "*" not in word and "$" not in word:
                there(word)
    elif name == "pip":
        if args[:1] == ("install",):
            installed(args[1:])
    elif name == "eval.step":
        split = args.index("--")
        parsed(name, args)
        check(shlex.join(args[split + 1 :]))
    elif name.split(".")[0] not in OURS:
        raise Refused(f"no rule of tests/commands.py covers python -m {name}")
    elif kind(name) == "config":
        with _named():
            load(config_of(name), args)
    elif kind(name) == "folder":
        if len(args) != 1 or args[0].startswith("-"):
            raise Refused(f"{name} takes one folder, not {shlex.join(args)!r}")
    else:
        values = vars(parsed(name, args).values)
        for path in values.values():
            if isinstance(path, Path) and path.parts[:1] == ("configs",):
                there(str(path))


def source_of(name: str) -> Path:
    """The file of a program of ours."""
    path = (ROOT / "tests" if name.startswith("faults") else ROOT) / name.replace(".", "/")
    for found in (path.with_suffix(".py"), path / "__main__.py"):
        if found.is_file():
            return found
    raise Refused(f"there is no module {name}")


def kind(name: str) -> str:
    """How a program reads its command line: `config`, `folder`, or `argparse`."""
    tree = ast.parse(source_of(name).read_text())
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    if "launch_on_folder" in called:
        return "folder"
    if "launch" in called:
        return "config"
    if any(isinstance(node, ast.Attribute) and node.attr == "ArgumentParser" for node in ast.walk(tree)):
        return "argparse"
    raise Refused(f"{name} is no program")


def config_of(name: str) -> type:
    module = importlib.import_module(name)
    return (importlib.import_module(f"{name}.__main__") if hasattr(module, "__path__") else module).Config


@cache
def parsed(name: str, args: Words) -> Parsed:
    """What an argparse program makes of its arguments, stopped there."""

    def stops(method: str) -> None:
        own = getattr(ArgumentParser, method)

        def parse(self: ArgumentParser, *given: object, **more: object) -> None:
            raise Parsed(self, own(self, *given, **more))

        patch.setattr(ArgumentParser, method, parse)

    with (
        pytest.MonkeyPatch.context() as patch,
        _named(),
        warnings.catch_warnings(action="ignore"),
    ):  # it has been imported
        stops("parse_args")
        stops("parse_intermixed_args")
        patch.setattr(sys, "argv", [str(source_of(name)), *args])
        if name.startswith("faults"):
            patch.syspath_prepend(ROOT / "tests")
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=False)
        except Parsed as found:
            return found
    raise Refused(f"{name} read no command line")


def options_of(name: str) -> set[str]:
    """Without their dashes."""
    if kind(name) == "config":
        return {*config._leaves(config_of(name)), "config_path"}
    if kind(name) == "folder":
        return set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ArgumentParser, "error", lambda *_: None)
        actions = parsed(name, ("--", "true") if name == "eval.step" else ()).parser._actions
    return {option.lstrip("-") for action in actions for option in action.option_strings}


def programs() -> list[str]:
    """All programs of ours, by their modules' names; those that draw with MuJoCo are not imported here."""
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text()
            if '__name__ == "__main__"' in text and "import mujoco" not in text:
                name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
                with contextlib.suppress(Refused):
                    kind(name)
                    found.append(name.removesuffix(".__main__"))
    return found


@cache
def made(args: Words) -> None:
    """What make would do: every target is there, and every command in it is checked."""
    command = ["make", "--dry-run", "--no-print-directory", *args]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    result = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    if result.returncode:
        raise Refused(result.stderr.strip().splitlines()[-1])
    for line in result.stdout.replace("\\\n", " ").splitlines():
        if re.match(r"make(\[\d+\])?: ", line) or not line.strip():
            continue  # it speaks of itself
        for words in (_bare(part) for text in _unrolled(line.strip()) for part in _parts(words_of(text))):
            if words and Path(words[0]).name in ("python", "accelerate", "make", "pip"):
                _check(words, True)


def _unrolled(line: str) -> list[str]:
    """What a shell's loop would do, one after the other."""
    loop = re.fullmatch(r"for (\w+) in ([^;]+); do (.*); done", line)
    return [loop[3].replace(f"${loop[1]}", value) for value in loop[2].split()] if loop else [line]


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """What a parser complains of, as `Refused`."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.chdir(ROOT):
            yield
    except config.BadInput as error:
        raise Refused(str(error)) from error
    except SystemExit as error:
        raise Refused(" ".join((said.getvalue().strip().splitlines() or [str(error)])[-1].split())) from error
