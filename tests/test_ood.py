"""The axes from end to end, in miniature: datasets, a light policy of each head, episodes of every kind, the report."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from flows import config

from eval import collect, figures, ood, rollout
from eval.pool import Pool
from eval.suites import trials
from train_stages import light
from videopolicy.data.files import read_jsonl
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput
from videopolicy.names import label
from videopolicy.provenance import commit
from videopolicy.types import ActionChunk

COLLECT = {"kind": "views", "views__n_each": 1, "views__thetas": "[0, 25]", "views__phis": "[0, 180]"}
POLICIES = {"para": "para", "regression": "regression"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ood")
    collect.main(config(collect.Config, "collect", output=root / "grid", grid__part="left", grid__n_positions=3))
    collect.main(config(collect.Config, "collect", output=root / "views", **COLLECT))
    for data, select, name, n in (
        ("grid", "left", "para", None),
        ("grid", "left", "regression", None),
        ("grid", "left", "para-2", 2),
        ("views", "hemisphere", "para", None),
        ("views", "hemisphere", "regression", None),
    ):
        where = {"run": root / select / name, "data__root": root / data, "data__select": select}
        where |= {"data__n_val_episodes": 0, "data__n_train_episodes": n or "null", "train__n_steps": 1}
        light.main(config(light.Config, "light", head__kind=name.split("-")[0], **where))
    roll(root, "left", "left_right", policies=POLICIES | {"para-2": "para-2"})
    roll(root, "left", "left_right", executor="osc")
    roll(root, "hemisphere", "hemisphere")
    ood.main(root)
    return root


def roll(
    root: Path,
    select: str,
    split: str,
    executor: str = "teleport",
    policies: dict[str, str] = POLICIES,
    **overrides: object,
) -> list[dict]:
    runs = json.dumps({name: str(root / select / run) for name, run in policies.items()})
    output = root / "rollout" / f"{split}_{executor}"
    overrides = {"n_oracle": 1, "n_episodes": 2, "output": output} | overrides
    splits = json.dumps([split])
    return rollout.main(config(rollout.Config, "rollout", policies=runs, splits=splits, executor=executor, **overrides))


def test_every_episode_of_the_views_has_its_camera(folder: Path) -> None:
    data = Dataset(folder / "views")
    assert [(e["theta"], e["phi"]) for e in data.extras()] == [(0, 0), (0, 180), (25, 0), (25, 180)]
    heights = [data.camera_of(e).position[2] for e in range(4)]
    assert heights[2] > heights[0] == heights[1] > heights[3]
    for e in range(4):  # the end effector is where the moved camera shows it: in the picture
        assert data.camera_of(e).contains(data.camera_of(e).project(data.state(e)[:, :3])).mean() > 0.8


def test_a_dataset_has_its_card(folder: Path) -> None:
    card = (folder / "grid/README.md").read_text()
    assert "| episodes kept | 3 |" in card
    assert "reprojection error of markers" in card
    assert (folder / "grid/meta/contact_sheet.jpg").stat().st_size > 1000


def test_collecting_again_adds_nothing(folder: Path) -> None:
    before = (folder / "grid/meta/info.json").read_bytes()
    again = collect.main(config(collect.Config, "collect", output=folder / "grid", grid__n_positions=3))
    assert again["new"] == 0
    assert (folder / "grid/meta/info.json").read_bytes() == before


def test_a_hole_is_no_success(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A position that the expert cannot do is named, and the rest is kept."""
    monkeypatch.setattr("eval.grid.training_cells", lambda *_: [Unreachable()])
    with pytest.raises(BadInput, match=r"lacks 1 of 1 episodes: the expert failed 1 times with bowl at \[0.35"):
        collect.main(config(collect.Config, "collect", output=tmp_path / "data", grid__n_positions=1, n_tries=1))


class Unreachable:
    row, col, bowl_xy = 0, 0, np.array([0.35, -0.1])


def test_summary_has_the_promised_rows(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    axes = {(axis, policy) for axis in ("left_right", "hemisphere") for policy in POLICIES}
    assert {(r["axis"], r["policy"]) for r in summary["rows"]} == axes | {("left_right", "para-2")}
    for row in summary["rows"] + summary["osc"]:
        assert row["n"] == 2
        assert row["weighted"] == pytest.approx(row["place"] + row["grasp"] / 2)
        assert row["wilson95"][0] <= row["place"] <= row["wilson95"][1]
        assert row["steps"] == 1
        assert row["n_groups"] == 2
        assert row["trained_at"] == row["commits"] == [commit()]
        assert row["copies"] == 0.0
        assert row["wilson95_grouped"][0] <= row["wilson95"][0]
        expected = {"left_right": 3, "hemisphere": 2}[row["axis"]]
        assert row["demonstrations"] == (2 if row["policy"] == "para-2" else expected)
    assert {r["executor"] for r in summary["osc"]} == {"osc"}
    assert {r["axis"] for r in summary["paired"]} == {"left_right", "hemisphere"}
    assert {r["policy"] for r in summary["per_theta"]} == set(POLICIES)
    sensitivity = summary["sensitivity"]["rows"]
    assert {r["cause"] for r in sensitivity} >= {"one pixel down", "camera pitched by 1 degree"}
    own, lowest = dict.fromkeys(r["camera"] for r in sensitivity)
    assert lowest.startswith("lowest of hemisphere (")
    down = {r["camera"]: r["mean_mm"] for r in sensitivity if r["cause"] == "one pixel down"}
    assert down[lowest] > down[own]
    for row in summary["rows"]:
        said = row["confidence"].values()
        assert any(said) == row["policy"].startswith("para")  # heads without heatmaps have none
        assert row["n_execute"] == 4
    for name, key in (("per_theta", "theta"), ("by_distance", "distance_cm")):
        cells = [r for r in summary[name] if (r["policy"], r["executor"]) == ("para", "teleport")]
        assert sum(r["n"] for r in cells) == 2
        assert all(len(r["wilson95"]) == 2 and isinstance(r[key], float) for r in cells)


FIGURES = {
    "placed, by group": ("left_right", "hemisphere"),
    "placed by camera": ("hemisphere",),
    "positions trained on and tested": ("left_right", "hemisphere"),
    "placed, by number of demonstrations": ("left_right",),
    "heatmaps of para": ("left_right", "hemisphere"),
}


def test_the_report_has_every_promised_figure(folder: Path) -> None:
    """Curves by distance and by angle, cameras, positions, heatmaps, rollouts, and tables of them with n."""
    page = (folder / "report.html").read_text()
    for words, axes in FIGURES.items():
        assert re.findall(f'<img src="data:image/png;base64,[^"]+" alt="{words}, ([a-z_]+)"', page) == list(axes), words
    assert re.findall(r'<video src="data:video/mp4;base64,[^"]+"[^>]*></video><figcaption>([^<]+)<', page) == [
        *("para", "coordinate regression") * 2
    ]
    text = re.sub(r"data:[a-z0-9/+]+;base64,[A-Za-z0-9+/=]+", "", page)
    assert "crosses: cameras that were trained with" in text
    assert "grey squares trained on, discs tested" in text
    assert "Heatmaps of <b>para</b> on the first pictures" in text
    assert re.search(r"Confidence, the probability .*\npara [^a-z]+; |\npara [^a-z]+\.<", text)
    for row in json.loads((folder / "summary.json").read_text())["per_theta"]:
        assert f"<th>{row['theta']:.1f}°</th>" in text
        low, high = row["wilson95"]
        assert f"<b>{row['place']:.0f} %</b> of {row['n']}<br>{low:.0f} \u2013 {high:.0f}" in text
    assert re.search(r"<th>[0-9]+ to [0-9]+ cm</th>", text)
    assert "one pixel down" in text
    assert "<td>oracle</td>" in text
    assert "before re-planning: 4 (para, coordinate regression, para-2)" in text


def test_nobody_takes_regression_for_act(folder: Path) -> None:
    """What the summary calls `regression` is coordinate regression wherever people read."""
    page = (folder / "report.html").read_text()
    text = re.sub(r"data:[a-z0-9/+]+;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.findall(r"(?<![Cc]oordinate )(?<![a-z])regression(?!</code>)", text)
    assert "it is not ACT" in text
    assert {r["policy"] for r in json.loads((folder / "summary.json").read_text())["rows"]} >= {"regression"}
    names = {"regression+camera": "coordinate regression+camera", "regression_3d_5_0": "coordinate regression_3d_5_0"}
    names |= {"svd+global": "svd+coordinate regression", "act": "act", "para": "para", "oracle": "oracle"}
    assert {name: label(label(name)) for name in names} == names


def test_episodes_of_a_grid_say_where_they_are() -> None:
    record = {"outcome": "miss", "view": None, "init_state": None, "distance": 0.123}
    assert figures.caption(record) == "MISS 12 cm"
    assert figures.caption(record | {"outcome": "place", "view": [25.0, 180.0]}) == "PLACE 25.0/180 deg"
    assert figures.caption(record | {"outcome": "grasp", "init_state": 7}) == "GRASP state 7"


def test_cameras_that_were_trained_with_are_marked() -> None:
    records = [{"policy": "para", "view": [t, 90.0], "outcome": "place"} for t in (0.0, 25.0)]
    marks = ([], [(0.0, 0.0)], [(0.0, 45.0), (0.0, 90.0)], [(0.0, 0.0), (25.0, 90.0)])
    plain, one, same, two = (figures.polar_figure(records, ["para"], views) for views in marks)
    assert plain != one == same != two  # at an angle of 0 every direction is the same camera


def test_a_report_of_plain_control_alone(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "rollout/left_right_osc", tmp_path / "rollout/left_right_osc")
    assert ood.main(tmp_path)["rows"] == []
    assert "step cap 600" in (tmp_path / "report.html").read_text()


def test_a_row_says_where_the_bowl_alone_was_moved(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "rollout/left_right"
    shutil.copytree(folder / "rollout/left_right_teleport", copy)
    records = [r | {"shift": "bowl"} for r in read_jsonl(copy / "episodes.jsonl")]
    (copy / "episodes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    summary = ood.main(tmp_path)
    assert {r["shift"] for r in summary["rows"] + summary["oracle"]} == {"bowl"}
    assert "<td>left_right, bowl alone moved</td>" in (tmp_path / "report.html").read_text()
    assert not any("shift" in r for r in json.loads((folder / "summary.json").read_text())["rows"])


def test_episodes_that_belong_to_no_table_are_named(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "rollout/left_right"
    shutil.copytree(folder / "rollout/left_right_osc", copy)
    records, config = (copy / "episodes.jsonl").read_text(), (copy / "config.yaml").read_text()
    changes = (
        ("episodes.jsonl", records.replace('"left_right"', '"held_out"'), "split is 'held_out'; allowed: 'left_right'"),
        (
            "episodes.jsonl",
            records.replace('"group"', '"number"'),
            "holds episodes of an older version, without group; name another output",
        ),
        (
            "config.yaml",
            config.replace("regression:", "another:"),
            r"has \['regression'\]; allowed: config",
        ),
        ("config.yaml", None, "has episodes but no config.yaml"),
    )
    for name, text, words in changes:
        (copy / "episodes.jsonl").write_text(records)
        (copy / "config.yaml").write_text(config)
        (copy / name).unlink()
        if text is not None:
            (copy / name).write_text(text)
        with pytest.raises(BadInput, match=words):
            ood.main(tmp_path)
        assert not (tmp_path / "summary.json").exists()


def test_moved_cameras_are_moved(folder: Path) -> None:
    records = read_jsonl(folder / "rollout/hemisphere_teleport/episodes.jsonl")
    poses = {tuple(r["view"]): np.array(r["camera"]["T_world_cam"])[:3, 3] for r in records}
    assert len(poses) == 2
    for (theta, phi), position in poses.items():
        assert phi >= 180
        assert position[1] > -1e-9  # image right
        assert theta > 0


def test_an_axis_wants_its_own_training_set(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"splits has 'distractors', which tests policies trained on data.select 'dense"):
        roll(folder, "left", "distractors")


def test_distractors_stand_as_libero_has_them() -> None:
    """Bowl and plate at their default places in every fixed state, one bowl of two where asked, more in the picture."""
    hold = ActionChunk(np.tile([-0.12, 0.0, 0.2], (2, 1)), np.ones(2), 0.25)
    protocol = {"kind": "episode", "image_size": 112, "executor": "teleport", "step_cap": 40, "period": 0.25}
    protocol |= {"n_execute": 1, "max_chunks": 1, "oracle": False, "n_steps": 2, "ensemble": None}
    pictures = {}
    with Pool(1) as pool:
        for split in ("distractors", "distractors_one_bowl"):
            found = [t for t in trials(split, None, 0, np.zeros((1, 2)), "both") if t.init_state in (0, 7)][:2]
            jobs = [{**t.job(), "start_jitter": np.zeros(3), **protocol} for t in found]
            for number, result in pool.run(jobs, lambda requests: [hold] * len(requests)):
                np.testing.assert_allclose(result["final"]["bowl"][:2], found[number].bowl_xy, atol=0.02)
                np.testing.assert_allclose(result["final"]["plate"][:2], found[number].bowl_xy + [0.11, 0], atol=0.02)
                assert result["outcome"] == "miss"
                pictures[split, found[number].init_state] = result["frames"][0].astype(float)
    for state in (0, 7):  # the second bowl is gone, the rest is there
        changed = np.abs(pictures["distractors", state] - pictures["distractors_one_bowl", state]).sum(-1) > 60
        assert 0.002 < changed.mean() < 0.05


def test_a_report_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no finished episodes under"):
        ood.main(tmp_path)
