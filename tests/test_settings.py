"""A robot's YAML file: what it may say, refused in a line that names the value; nothing that is no number passes."""

from pathlib import Path

import pytest

from robot.settings import Settings, read_settings
from videopolicy.errors import BadInput

NAN = ".nan"
TWIN = "camera: {source: twin}\ntwin: "


@pytest.mark.parametrize("name", ["robot_so100", "robot_twin", "robot/demo", "robot/moved"])
def test_those_that_come_along_are_read(name: str) -> None:
    settings = read_settings(Path(f"configs/{name}.yaml"))
    assert isinstance(settings, Settings)
    assert (settings.twin is None) == (name == "robot_so100")


def test_keys_are_overridden() -> None:
    assert read_settings(Path("configs/robot_so100.yaml"), "--camera.fps", "15").camera.fps == 15


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port: ''", "port is empty"),
        ("slack: 3.0", "slack is 3.0; allowed: 0.001 to 0.5 s"),
        ("speed: 1.0", "unknown key 'speed'"),
        ("arm: {p_gain: 300}", "arm.p_gain is 300; allowed: 0 to 254"),
        ("arm: {torque: 0}", "arm.torque is 0.0; allowed: above 0, to 1"),
        (f"arm: {{max_temperature: {NAN}}}", "arm.max_temperature is nan; allowed: 30 to 80"),
        ("safety: {margin_deg: 200}", "safety.margin_deg is 200.0; allowed: 0 to 20"),
        (f"safety: {{speed: {NAN}}}", "safety.speed is nan; allowed: above 0, to 5.2"),
        ("safety: {low: [0.4, 0, 0]}", "safety.low is"),
        ("control: {droop_gain: 11}", "control.droop_gain is 11.0; allowed: 0 to 10"),
        (f"control: {{replan: {NAN}}}", "control.replan is nan; allowed: 0 to 10"),
        ("camera: {source: twin}", "camera.source is 'twin' without a twin"),
        ("twin: {}", "camera.source is 'device' with a twin"),
        (TWIN + "{seed: -1}", "twin.seed is -1; allowed: from 0 on"),
        (TWIN + f"{{camera: [{NAN}, 0, 1]}}", "twin.camera is .*; allowed: finite numbers"),
        (TWIN + "{camera: [0.2, 0.0, 1.0]}", "is above twin.looks_at"),
        (TWIN + "{fovy: 200}", "twin.fovy is 200.0; allowed: 10 to 120"),
        (TWIN + "{latency: 5}", "twin.latency is 5.0; allowed: 0 to 2"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "robot.yaml").write_text(text + "\n")
    with pytest.raises(BadInput, match=words) as caught:
        read_settings(tmp_path / "robot.yaml")
    assert "\n" not in str(caught.value)
