"""The quick part of `make faults`: programs survive what is done to them, and lose nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_everything_is_survived_and_nothing_lost(tmp_path: Path) -> None:
    """In a process of its own, from which others are forked."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/tests:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "faults", "--quick", "--json", str(tmp_path / "rows.json")]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    name, injected, survived, lost = result.stdout.splitlines()[-1].split()[:4]
    assert name == "total"
    assert int(injected) == int(survived) > 500
    assert int(lost) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert rows[-1]["injected"] == sum(row["injected"] for row in rows[:-1]) == int(injected)
