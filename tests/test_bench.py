"""The heads' exact forms stay cheap: about half of what was measured must be left on any machine."""

import json
from pathlib import Path

import pytest

from bench import heads

FLOORS = {  # row: (memory, time), naive over ours; goals are twice that
    "factored_loss": (50, 40),
    "volume_loss": (30, 2.5),
    "volume_argmax": (10, 10),
}
CEILINGS = {"step_share_factored": 0.04, "step_share_volume": 0.08}  # of the backbone's time


def test_exact_forms_are_cheap(tmp_path: Path) -> None:
    rows = heads.main(["--json", str(tmp_path / "bench.json")])
    assert json.loads((tmp_path / "bench.json").read_text()) == {"rows": rows}
    by_name = {r["name"]: r for r in rows}
    assert list(by_name) == list(heads.ROWS) == [*FLOORS, *CEILINGS]
    for name, (memory, time) in FLOORS.items():
        assert by_name[name]["memory_ratio"] >= memory, by_name[name]
        assert by_name[name]["time_ratio"] >= time, by_name[name]
    for name, share in CEILINGS.items():
        assert by_name[name]["time_ratio"] <= share, by_name[name]


def test_few_repeats_are_refused(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        heads.main(["--repeats", "4"])
    assert caught.value.code == 2
    assert "--repeats is 4; allowed: at least 5" in capsys.readouterr().err
