"""Lists that people write, read strictly: what is wrong with an entry is one line, and the others are read anyway."""

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from videopolicy.data.files import reading
from videopolicy.errors import BadInput

T = TypeVar("T")


class _Strict(yaml.SafeLoader):
    """A key that stands twice is an error, not the second one's value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for i, key in enumerate(keys) if key in keys[:i]]:
            raise BadInput(f"{twice[0]!r} stands twice, once more in line {node.start_mark.line + 1} or below")
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> dict:
    """A YAML file's keys and values; `BadInput` in one line."""
    with reading(path):
        found = _Strict(path.read_text()).get_single_data()
        if not isinstance(found, dict):
            raise BadInput(f"it must hold keys and values, not {'nothing' if found is None else type(found).__name__}")
    return found


def fill(kind: type[T], values: object, where: str, faults: list[str]) -> T | None:
    """A dataclass from a mapping; None, and a line in `faults`, where a key is unknown, missing or of another type."""
    fault = _fault(kind, values)
    if fault is None:
        assert isinstance(values, dict)
        try:
            return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        except BadInput as error:
            fault = str(error)
    faults.append(f"{where}: {fault}")
    return None


def _fault(kind: type, values: object) -> str | None:
    if not isinstance(values, dict):
        return f"{values!r} must hold keys and values"
    fields, hints = {f.name: f for f in dataclasses.fields(kind)}, typing.get_type_hints(kind)
    for key, value in values.items():
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            return f"unknown key {key!r}" + (f"; did you mean {close[0]!r}?" if close else f"; allowed: {[*fields]}")
        if not _fits(value, hints[key]):
            return f"{key} is {value!r}; allowed: {_words(hints[key])}"
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            return f"{name!r} is missing"
    return None


def _fits(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, a) for a in args)
    if origin is typing.Literal:
        return value in args
    if origin is tuple:
        return isinstance(value, list) and all(_fits(v, args[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(k, args[0]) and _fits(v, args[1]) for k, v in value.items())
    if hint is Any:
        return True
    return type(value) in ((int, float) if hint is float else (hint,))


def _words(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(a) for a in args if a is not type(None))
    if origin is typing.Literal:
        return ", ".join(map(repr, args))
    if origin is tuple:
        return f"a list, each {_words(args[0])}"
    names = {str: "words", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint, "keys and values" if origin is dict or hint is dict else str(hint))
