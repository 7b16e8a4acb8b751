"""Typed configurations: frozen dataclasses, filled from YAML, overridden by the same keys on the command line.

The only user of draccus. `launch(main, Config)` is what every script calls.
"""

import argparse
import dataclasses
import difflib
import itertools
import os
import sys
import tempfile
import traceback
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import draccus
import yaml

from videopolicy.errors import BadInput

C = TypeVar("C")
R = TypeVar("R")
ERRORS = (argparse.ArgumentError, draccus.utils.DraccusException, yaml.YAMLError, ValueError, TypeError)


def load(config_class: type[C], args: Sequence[str] | None = None) -> C:
    """The configuration named by `--config_path`, with `--key value` and `--group.key value` on top.

    Raises `BadInput` for a missing file, an unknown key (with its nearest neighbour) or a value of the wrong type.
    """
    args = list(sys.argv[1:] if args is None else args)
    path = _config_path(args)
    values = {} if path is None else _read_yaml(path)
    _check_keys(config_class, values, str(path))
    known = set(_leaves(config_class))
    for arg in args:
        name = arg[2:].split("=")[0]
        if arg.startswith("--") and name not in known | {"config_path", "help"}:
            raise BadInput(f"unknown option --{name}{_nearest(name, known)}")
    args = _switched_on(config_class, args, known)
    base = with_defaults(config_class, values)
    for name, value in _given(args):
        if name not in known:
            continue
        hint = _hint(config_class, name)
        if value == "null":
            _check_null(hint, name, "command line")
            continue
        _check_choice(_not_none(hint), name, value)
        if dataclasses.is_dataclass(_not_none(hint)) and not value.startswith("{"):
            first = next(iter(_fields(_not_none(hint))))
            raise BadInput(f"--{name} is a group, not {value!r}; give its keys, as --{name}.{first}")
        if typing.get_origin(hint) is dict:
            _drop(base, name)  # draccus would add to a mapping what should replace it
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as whole:
            yaml.safe_dump(base, whole)
            whole.flush()
            config = draccus.parse(config_class, whole.name, _without_path(args), exit_on_error=False)
    except ERRORS as error:
        raise BadInput(f"{_to_blame(config_class, values, path)}: {_cause(error)}") from error
    _check_words(config, str(path or "command line"))
    return config


def to_dict(config: Any) -> dict:
    """Plain nested dict of a configuration, as it is written to `config.yaml` and into checkpoints."""
    return draccus.encode(config)


def from_dict(config_class: type[C], values: dict) -> C:
    return draccus.decode(config_class, values)


def with_defaults(config_class: type, values: dict) -> dict:
    """Values as a file or a checkpoint gives them, and for keys that it leaves out the whole configuration's defaults.

    draccus would fill a group of which one key is given from the defaults of the group's own class, not from those that
    the configuration gives it.
    """
    whole: dict[str, Any] = {}
    for field in dataclasses.fields(config_class):
        if field.default is not dataclasses.MISSING:
            whole[field.name] = draccus.encode(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            whole[field.name] = draccus.encode(field.default_factory())
    return _merged(whole, values, config_class)


def dump(config: Any) -> str:
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def launch(main: Callable[[Any], Any], config_class: type) -> None:
    """Run `main` on the command line's configuration; bad input ends in one line and exit status 2."""
    guarded(lambda: main(load(config_class)))


def launch_on_folder(main: Callable[[Path], Any], usage: str) -> None:
    """Run `main` on the one folder that the command line names; likewise."""
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {usage}")
    guarded(lambda: main(Path(sys.argv[1])))


def guarded(run: Callable[[], R]) -> R:
    """Run a program's whole work, whose end may be one line.

    Exit status 2 after bad input, 1 after a loss that is not finite, 130 after a stop that was asked for. Where what
    was taken for bad input may be a fault of the program, VIDEOPOLICY_TRACEBACK=1 shows where it came from.
    """
    try:
        return run()
    except BadInput as error:
        if os.environ.get("VIDEOPOLICY_TRACEBACK") == "1":
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        raise SystemExit(130) from None


def _config_path(args: list[str]) -> Path | None:
    n = sum(arg.split("=", 1)[0] == "--config_path" for arg in args)
    if n > 1:
        raise BadInput(f"--config_path is given {n} times; allowed: once")
    for i, arg in enumerate(args):
        if arg == "--config_path":
            if i + 1 == len(args):
                raise BadInput("--config_path needs the path of a YAML file")
            return Path(args[i + 1])
        if arg.startswith("--config_path="):
            return Path(arg.split("=", 1)[1])
    return None


def _drop(values: dict, name: str) -> None:
    """Take a key, `group.key`, out of nested values."""
    *groups, key = name.split(".")
    for group in groups:
        values = values[group]
    values.pop(key, None)


def _without_path(args: list[str]) -> list[str]:
    """The options but `--config_path`."""
    kept, skip = [], False
    for arg in args:
        if not (skip or arg == "--config_path" or arg.startswith("--config_path=")):
            kept.append(arg)
        skip = arg == "--config_path"
    return kept


def _merged(base: dict, values: dict, config_class: type) -> dict:
    kinds = _fields(config_class)
    return base | {
        key: _merged(base[key], value, kinds[key])
        if dataclasses.is_dataclass(kinds.get(key)) and isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in values.items()
    }


def _given(args: Sequence[str]) -> list[tuple[str, str]]:
    """Options and their values, as `--name value` or `--name=value`."""
    flat = [part for arg in args for part in (arg.split("=", 1) if arg.startswith("--") else [arg])]
    return [(a[2:], b) for a, b in itertools.pairwise(flat) if a.startswith("--")]


def _hint(config_class: Any, name: str) -> Any:
    """The type of an option, `group.key`."""
    *groups, key = name.split(".")
    for group in groups:
        config_class = _fields(config_class)[group]
    return typing.get_type_hints(config_class)[key]


def _switched_on(config_class: type, args: list[str], known: set[str]) -> list[str]:
    """The same options; one that is true or false, and is given without saying which, is true."""
    found = []
    for arg, after in itertools.pairwise([*args, "--"]):
        found.append(arg)
        if arg[:2] == "--" and arg[2:] in known and after[:2] == "--" and _hint(config_class, arg[2:]) is bool:
            found.append("true")
    return found


def _check_choice(hint: Any, name: str, value: str) -> None:
    """`BadInput` for a word that is none of a choice's, or for something else than a mapping where one is wanted."""
    allowed = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal and value not in map(str, allowed):
        raise BadInput(f"--{name} is {value!r}; allowed: {', '.join(map(str, allowed))}")
    if typing.get_origin(hint) is dict and not value.lstrip().startswith("{"):
        raise BadInput(f'--{name} is {value!r}; allowed: a mapping, as "{{name: value}}"')


def _to_blame(config_class: type, values: dict, path: Path | None) -> str:
    """Where a value stands that cannot be taken: in the file, unless that is in order by itself."""
    if path is None:
        return "command line"
    try:
        draccus.decode(config_class, with_defaults(config_class, values))
    except ERRORS:
        return str(path)
    return "command line"


def _read_yaml(path: Path) -> dict:
    if not path.is_file():
        there = sorted(map(str, path.parent.glob("*.yaml"))) if path.parent.is_dir() else []
        raise BadInput(f"no configuration file {path}; there is: {', '.join(there) or 'nothing in that folder'}")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        there_is = "nothing" if values is None else f"a {type(values).__name__}"
        raise BadInput(f"{path} must hold keys and values, not {there_is}")
    return values


def _check_keys(config_class: type, values: dict, where: str, prefix: str = "") -> None:
    fields, hints = _fields(config_class), typing.get_type_hints(config_class)
    for key, value in values.items():
        if key not in fields:
            raise BadInput(f"{where}: unknown key {prefix + str(key)!r}{_nearest(str(key), fields)}")
        if value is None:
            _check_null(hints[key], prefix + key, where)
        if dataclasses.is_dataclass(fields[key]) and isinstance(value, dict):
            _check_keys(fields[key], value, where, f"{prefix}{key}.")


def _cause(error: BaseException) -> str:
    """What went wrong in one line: a configuration's own complaint, where it stands behind draccus's general one."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, BadInput):
        behind = behind.__cause__ or behind.__context__
    return " ".join(str(behind or error).split())


def _check_null(hint: Any, name: str, where: str) -> None:
    """draccus lets null stand for every type; here only `X | None` may be null."""
    if type(None) not in typing.get_args(hint):
        raise BadInput(f"{where}: {name!r} is null, which is no {getattr(hint, '__name__', hint)}")


def _check_words(config: Any, where: str, prefix: str = "") -> None:
    """draccus takes a word for the list of its letters."""
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if hint == tuple[str, ...] and len(value) > 1 and all(len(v) == 1 for v in value):
            word = "".join(value)
            raise BadInput(f"{where}: {prefix + name!r} is the word {word!r}; a list is written '[{word}]'")
        if dataclasses.is_dataclass(value):
            _check_words(value, where, f"{prefix}{name}.")


def _fields(config_class: type) -> dict[str, Any]:
    """Field names of a config dataclass with their types, `X | None` counted as X."""
    hints = typing.get_type_hints(config_class)
    return {f.name: _not_none(hints[f.name]) for f in dataclasses.fields(config_class)}


def _not_none(hint: Any) -> Any:
    options = [o for o in typing.get_args(hint) if o is not type(None)]
    return options[0] if len(options) == 1 and type(None) in typing.get_args(hint) else hint


def _leaves(config_class: Any, prefix: str = "") -> list[str]:
    names = []
    for name, kind in _fields(config_class).items():
        names.append(prefix + name)
        if dataclasses.is_dataclass(kind):
            names += _leaves(kind, f"{prefix}{name}.")
    return names


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(sorted(known))}"
