"""What a document asks to be installed, and programs that come with it: whether this project has them."""

import contextlib
import importlib.metadata
import re
import shlex
import tomllib

import yaml
from documents import ROOT

# Programs of others, by the package that brings each.
SCRIPTS = {"tensorboard": "tensorboard", "hf": "huggingface_hub", "rerun": "rerun-sdk"}


class Refused(Exception):
    """A command that would not start, and why."""


def there(path: str) -> None:
    if not (ROOT / path).exists():
        raise Refused(f"there is no {path}")


def installed(args: tuple[str, ...]) -> None:
    """`pip install`: extras are ours, and the file of versions is there."""
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for word, following in zip(args, (*args[1:], ""), strict=True):
        if word == "-c":
            there(following)
        asked = re.fullmatch(r"\.\[(.+)\]", word)
        if asked and (unknown := set(asked[1].split(",")) - extras):
            raise Refused(f"no extra {', '.join(sorted(unknown))}; there are {', '.join(sorted(extras))}")


def environment(args: tuple[str, ...]) -> None:
    """conda's, made from the file and activated by the name in it."""
    known = yaml.safe_load((ROOT / "environment.yml").read_text())["name"]
    if args not in (("env", "create", "-f", "environment.yml"), ("activate", known)):
        raise Refused(f"conda {shlex.join(args)}: make it from environment.yml, activate {known}")


def provided(name: str) -> None:
    """A program of a package that is installed, or that an extra names."""
    package = SCRIPTS[name]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    if not any(re.split(r"[\[<>=]", row)[0].replace("-", "_") == package.replace("-", "_") for row in rows):
        raise Refused(f"{name} is of {package}, which pyproject.toml does not name")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        scripts = {e.name for e in importlib.metadata.distribution(package).entry_points}
        if name not in scripts:
            raise Refused(f"{package} has no program {name}; it has {', '.join(sorted(scripts))}")
