"""Configurations: what is wrong is named in one line; what is shipped loads; what is required is pinned."""

import importlib
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import yaml
from packaging.requirements import Requirement

from robot.settings import Settings
from videopolicy.config import dump, from_dict, guarded, load, to_dict
from videopolicy.errors import BadInput

ROOT = Path(__file__).parent.parent
# Those of the scripts; accelerate's own are read in `test_accelerate.py`, rows of a table in `test_ablations.py`.
OTHERS = {"accelerate", "ablations"}
SHIPPED = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if not OTHERS & set(p.relative_to(ROOT).parts))


@dataclass(frozen=True)
class Head:
    kind: Literal["para", "regression"] = "para"
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise BadInput(f"head.rate is {self.rate}; allowed: at least 0")


@dataclass(frozen=True)
class Config:
    n_steps: int = 3
    head: Head = Head()
    init_from: Path | None = None
    dry_run: bool = False


def file(folder: Path, text: str) -> list[str]:
    path = folder / "config.yaml"
    path.write_text(text)
    return ["--config_path", str(path)]


def message(args: list[str]) -> str:
    with pytest.raises(BadInput) as caught:
        load(Config, args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@dataclass(frozen=True)
class Outer:
    """A group whose defaults here are not those of its class."""

    head: Head = Head("regression", 0.25, names=("one", "two"))


@dataclass(frozen=True)
class Mapping:
    policies: dict[str, str] = field(default_factory=dict)


def test_a_mapping_is_replaced_not_added_to(tmp_path: Path) -> None:
    args = file(tmp_path, "policies: {a: b}\n")
    assert load(Mapping, args).policies == {"a": "b"}
    assert load(Mapping, [*args, "--policies", "{c: d}"]).policies == {"c": "d"}
    with pytest.raises(BadInput, match=r"--policies is 'runs/x'; allowed: a mapping, as \"\{name: value\}\""):
        load(Mapping, [*args, "--policies", "runs/x"])


def test_what_is_true_or_false_may_be_switched_on(tmp_path: Path) -> None:
    args = file(tmp_path, "n_steps: 5\n")
    assert load(Config, [*args, "--dry_run"]).dry_run
    assert load(Config, ["--dry_run", *args]) == load(Config, [*args, "--dry_run", "true"])
    assert not load(Config, [*args, "--dry_run", "false"]).dry_run


def test_a_file_is_not_blamed_for_the_command_line(tmp_path: Path) -> None:
    args = file(tmp_path, "n_steps: 5\n")
    assert message([*args, "--n_steps", "many"]).startswith("command line: ")
    assert message([*file(tmp_path, "n_steps: many\n"), "--head.rate", "1"]).startswith(args[1])


def test_groups_and_repeated_files_are_named(tmp_path: Path) -> None:
    args = file(tmp_path, "n_steps: 5\n")
    assert "--config_path is given 2 times; allowed: once" in message([*args, *args])
    assert "--head is a group, not 'x.yaml'; give its keys, as --head.kind" in message(["--head", "x.yaml"])


def test_a_group_of_which_one_key_is_given_keeps_its_other_defaults(tmp_path: Path) -> None:
    """From the command line, from a file, and from both."""
    assert load(Outer, ["--head.rate", "0.125"]) == Outer(Head("regression", 0.125, names=("one", "two")))
    args = file(tmp_path, "head: {sizes: [3]}\n")
    assert load(Outer, args) == Outer(Head("regression", 0.25, (3,), ("one", "two")))
    assert load(Outer, [*args, "--head.kind=para"]) == Outer(Head("para", 0.25, (3,), ("one", "two")))


def test_command_line_overrides_file_overrides_defaults(tmp_path: Path) -> None:
    args = file(tmp_path, "n_steps: 5\nhead: {kind: regression, rate: 1.0e-3}\n")
    assert load(Config, []) == Config()
    assert load(Config, args) == Config(5, Head("regression", 1e-3))
    more = ["--head.rate", "2e-4", "--head.sizes", "[4, 5]", "--init_from", "a/b", "--dry_run", "true"]
    assert load(Config, args + more) == Config(5, Head("regression", 2e-4, (4, 5)), Path("a/b"), True)


def test_null_means_none_only_where_none_is_allowed(tmp_path: Path) -> None:
    args = file(tmp_path, "init_from: a/b\n")
    assert load(Config, [*args, "--init_from", "null"]).init_from is None
    assert "'n_steps' is null" in message(file(tmp_path, "n_steps: null\n"))
    assert "'head.rate' is null" in message(file(tmp_path, "head: {rate: null}\n"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n_stps: 3", "unknown key 'n_stps'; did you mean 'n_steps'"),
        ("head: {rat: 2}", "unknown key 'head.rat'; did you mean 'rate'"),
        ("zzz: 3", "unknown key 'zzz'; allowed: dry_run, head, init_from, n_steps"),
        ("n_steps: many", "`n_steps`: Couldn't parse 'many' into an int"),
        ("n_steps: 1.5", "`n_steps`: Couldn't parse '1.5' into an int"),
        ("head: {sizes: [1, a]}", "`head.sizes.1`"),
        ("head: {kind: parra}", "into one of: para, regression"),
        ("head: 3", "`head`"),
        ("head: {rate: -1}", "head.rate is -1.0; allowed: at least 0"),
        ("head: {names: red}", "'head.names' is the word 'red'; a list is written '[red]'"),
        ("[1, 2]", "not a list"),
        ("", "not nothing"),
        ("head: [", "not YAML"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str, words: str) -> None:
    args = file(tmp_path, text)
    assert words in (said := message(args))
    assert args[1] in said


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--n_stps", "3"], "--n_stps; did you mean 'n_steps'"),
        (["--head.rat=3"], "--head.rat; did you mean 'head.rate'"),
        (["--rate", "3"], "--rate"),
        (["--n_steps", "many"], "'many' into an int"),
        (["--head.kind", "parra"], "--head.kind is 'parra'; allowed: para, regression"),
        (["--head.rate", "null"], "'head.rate' is null"),
        (["--n_steps=null"], "'n_steps' is null"),
        (["--head.rate", "-1"], "command line: head.rate is -1.0; allowed: at least 0"),
        (["--head.names", "red"], "'head.names' is the word 'red'; a list is written '[red]'"),
        (["--dry_run", "maybe"], "'maybe' into a bool"),
        (["--n_steps"], "n_steps: expected one argument"),
        (["n_steps", "3"], "n_steps 3"),
        (["--config_path"], "needs the path"),
    ],
)
def test_mistakes_on_the_command_line_are_named(args: list[str], words: str) -> None:
    assert words in message(args)


def test_a_missing_file_is_named_with_its_neighbours(tmp_path: Path) -> None:
    (path,) = file(tmp_path, "n_steps: 5")[1:]
    said = message([f"--config_path={tmp_path}/confg.yaml"])
    assert f"{tmp_path}/confg.yaml" in said
    assert path in said


def test_dictionaries_and_yaml_keep_everything(tmp_path: Path) -> None:
    """What a run writes beside its results loads as the configuration that made them."""
    config = Config(7, Head("regression", 1e-6, (3,)), Path("x"), True)
    assert from_dict(Config, to_dict(config)) == config
    assert load(Config, file(tmp_path, dump(config))) == config


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_shipped_configurations_load_by_the_command_in_their_comment(path: Path) -> None:
    """The top comment holds a command that names the file itself and a script whose Config accepts it."""
    comment = "".join(line for line in path.read_text().splitlines(True) if line.startswith("#"))
    command = re.search(r"#\s+(?:python -m|accelerate launch) (\S+) .*--(config_path|robot) (\S+)", comment)
    assert command, "no command in the top comment"
    assert command[3] == path.relative_to(ROOT).as_posix()
    module = importlib.import_module(command[1].removesuffix(".py").replace("/", "."))
    load(Settings if command[2] == "robot" else module.Config, ["--config_path", str(path)])


@pytest.mark.parametrize("args", [["--n_worker", "3"], ["--config_path", "nowhere.yaml"], ["--fps", "three"]])
def test_scripts_end_in_one_line_and_status_2(args: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "eval.collect", "--output", str(tmp_path / "data"), *args]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert args[1] in result.stderr or args[0] in result.stderr
    assert not (tmp_path / "data").exists()


def test_a_line_of_refusal_can_be_traced(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """What was taken for bad input may be a fault of the program."""

    def refuses() -> None:
        try:
            {}["heights"]
        except KeyError as error:
            raise BadInput("cannot read state.json") from error

    for value, traced in (("0", False), ("1", True)):
        monkeypatch.setenv("VIDEOPOLICY_TRACEBACK", value)
        with pytest.raises(SystemExit):
            guarded(refuses)
        said = capsys.readouterr().err
        assert said.splitlines()[-1] == "error: cannot read state.json"
        assert ("KeyError: 'heights'" in said) == traced


def test_conda_installs_the_same_packages() -> None:
    """environment.yml adds Python and pip, and leaves everything else to pyproject.toml and constraints.txt."""
    *conda, inner = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert conda == ["python=3.11", "pip"]
    assert inner == {"pip": ["-c constraints.txt", "-e .[sim,robot,dev]"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"sim", "robot", "dev"} <= set(project["optional-dependencies"])
    assert "3.11" in project["requires-python"]


def test_every_dependency_is_pinned_to_a_version_it_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines)
    assert len(pins) == len(lines)
    for requirement in map(Requirement, rows):
        version = pins.get(requirement.name.lower().replace("_", "-"))
        assert version, f"{requirement} has no pin"
        assert requirement.specifier.contains(version), f"{requirement} against {version}"
