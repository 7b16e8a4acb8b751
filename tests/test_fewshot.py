"""Few-shot tuning: nested choices of demonstrations, every cell by one command, and the tables of what was run."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from builders import FPS, MARKERS, agentview, background, discs, episode, write_dataset

from eval import fewshot, fewshot_report
from eval.fewshot import Cell, Config, cells_of, training
from videopolicy.config import load
from videopolicy.data.dataset import DataConfig, split_episodes
from videopolicy.data.episode import Episode
from videopolicy.data.files import append_jsonl, make_folder
from videopolicy.data.lerobot import Dataset
from videopolicy.data.recording import Writer
from videopolicy.errors import BadInput
from videopolicy.rates import wilson95
from videopolicy.training import checkpoint

SUITE = Path(fewshot.CONFIGS) / "suite.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations that say where the bowl stood, and the same with a circle for a robot."""
    root = tmp_path_factory.mktemp("data")

    def placed(number: int, one: Episode) -> Episode:
        return dataclasses.replace(one, extra={**one.extra, "bowl_xy": [-0.2, 0.1 * number]})

    write_dataset(root / "robot", lengths=(6, 5, 5, 6), change=placed)
    writer = Writer(
        root / "circles",
        FPS,
        "agentview",
        agentview(64),
        "move along a line",
        overlay={"kind": "circle", "radius": 0.03},
    )
    writer.write_markers(MARKERS, discs(background(64), agentview(64).project(MARKERS)), background(64))
    for number in range(3):
        writer.append(episode(number, 6))
    writer.finish()
    return root


def small(data: Path, output: Path, **changed: object) -> Config:
    cfg = Config(output, data / "robot", data / "circles", ("para",), ("2d",), (1,), (0,))
    return dataclasses.replace(cfg, n_episodes=1, n_steps_pretrain=1, n_steps=1, n_steps_all=1, **changed)


def test_fewer_demonstrations_are_among_more(data: Path) -> None:
    robot = Dataset(data / "robot")
    for seed in range(5):
        chosen = [
            set(split_episodes(robot, DataConfig(data / "robot", "all", 0, n, seed))[0])
            for n in range(1, len(robot) + 1)
        ]
        assert [len(c) for c in chosen] == [1, 2, 3, 4]
        assert all(few < more for few, more in zip(chosen, chosen[1:], strict=False))
    firsts = {split_episodes(robot, DataConfig(data / "robot", "all", 0, 1, seed))[0][0] for seed in range(12)}
    assert len(firsts) > 1
    assert split_episodes(robot, DataConfig(data / "robot", "all", 0, 2))[0] == [0, 3]
    with pytest.raises(BadInput, match=r"data\.subset_seed is -1; allowed: from 0 on, or null"):
        DataConfig(subset_seed=-1)


def test_cells_are_those_of_the_tables() -> None:
    """Two heads, three beginnings, five numbers and two seeds; from all demonstrations none is pretrained."""
    cells = cells_of(load(Config, ["--config_path", str(SUITE)]), 256)
    assert len(cells) == len(set(cells)) == 2 * 3 * 5 * 2 + 2 * 2
    assert {c.pretrain for c in cells if c.demos == 256} == {"scratch"}
    assert Cell("regression", "3d", 10, 1) in cells
    twice = load(Config, ["--config_path", str(SUITE), "--demos", "[5, 5]"])
    assert len(cells_of(twice, 256)) == 2 * 3 * 2
    with pytest.raises(BadInput, match=r"all 256 demos are only from scratch; allowed: scratch"):
        cells_of(load(Config, ["--config_path", str(SUITE), "--demos", "[256]", "--pretrain", "[3d]"]), 256)


def test_a_cell_is_pretrained_tuned_rolled_out_and_reported(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """By one command; the same again finds everything done, and another cell is added to the report."""
    summary = fewshot.main(small(data, tmp_path))
    (row,) = summary["rows"]
    assert (row["policy"], row["pretrain"], row["demos"], row["n"]) == ("para", "2d", 1, 1)
    tuned = checkpoint.find(tmp_path / "tune/para_2d_1_0")
    source = checkpoint.find(tmp_path / "pretrain/para_2d")
    assert checkpoint.read_state(tuned)["init_from"] == checkpoint.weights_digest(source)
    assert checkpoint.read_config(tuned)["data"]["subset_seed"] == 0
    shots = {(r["run"], r["scenes"]): r for r in summary["zero_shot"]}
    assert set(shots) == {("para_2d", "circles"), ("para_2d", "robot")}
    assert all(r["n"] > 0 and r["pixel"] > 0 for r in shots.values())
    page = (tmp_path / "report.html").read_text()
    assert "circle scenes above, robot scenes" in page
    assert json.loads((tmp_path / "summary.json").read_text())["rows"] == summary["rows"]
    capsys.readouterr()
    before = (tmp_path / "rollout/1/episodes.jsonl").read_text()
    assert fewshot.main(small(data, tmp_path))["rows"] == summary["rows"]
    assert "1 of 1 trainings are done" in capsys.readouterr().out
    assert (tmp_path / "rollout/1/episodes.jsonl").read_text() == before

    # What is there is not what is asked for: nothing is run, and nothing is taken for it.
    shutil.copytree(data / "robot", tmp_path / "other")
    with pytest.raises(BadInput, match=r"para_2d_1_0 was trained with data\.root .*robot, not .*other; name another"):
        fewshot.main(dataclasses.replace(small(data, tmp_path), robot=tmp_path / "other"))
    shutil.rmtree(tmp_path / "pretrain/para_2d")
    shutil.copytree(tmp_path / "tune/para_2d_1_0", tmp_path / "pretrain/para_2d")
    options = {"init_from": tmp_path / "pretrain/para_2d", "data.n_train_episodes": 1, "data.root": data / "robot"}
    with pytest.raises(
        BadInput, match=r"para_2d_1_0 was tuned from other weights than .*para_2d has now; name another"
    ):
        training(tmp_path / "tune/para_2d_1_0", "tune.yaml", 1, options).done()


def line(policy: str, number: int, outcome: str) -> dict:
    about = {"split": "few_shot", "seed": number, "group": number % 5, "commit": "c", "dataset": "d", "code": "x"}
    return {"policy": policy, "episode": number, "outcome": outcome, "digest": policy, **about}


def test_the_table_is_of_what_was_rolled_out(tmp_path: Path) -> None:
    """P, G and P + G / 2 over all seeds together, beside what each placed and what was published."""
    make_folder(tmp_path / "rollout/10")
    for seed, (n_placed, n_grasped) in enumerate(((6, 2), (8, 1))):
        for i in range(10):
            outcome = "place" if i < n_placed else "grasp" if i < n_placed + n_grasped else "miss"
            append_jsonl(tmp_path / "rollout/10/episodes.jsonl", line(f"para_3d_10_{seed}", i, outcome))
    append_jsonl(tmp_path / "rollout/10/episodes.jsonl", line("regression_scratch_10_0", 0, "miss"))
    summary = fewshot_report.report(tmp_path, tmp_path / "none", tmp_path / "none")
    para, regression = summary["rows"]
    assert (para["policy"], para["pretrain"], para["demos"], para["n"]) == ("para", "3d", 10, 20)
    assert (para["place"], para["grasp"], para["weighted"]) == (70.0, 15.0, 77.5)
    assert para["wilson95"] == list(wilson95(14, 20))
    assert para["wilson95_grouped"][0] < para["wilson95"][0]
    assert (para["place_of_seeds"], para["paper"]) == ([60.0, 80.0], 66)
    assert (regression["policy"], regression["place"], regression["paper"]) == ("regression", 0.0, 6)
    assert summary["zero_shot"] == []
    with pytest.raises(BadInput, match=r"no episodes under .*; run eval\.fewshot first"):
        fewshot_report.report(tmp_path / "empty", tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"demos": (1, 5)}, r"demos has 5; allowed: 1 to the 4 demonstrations of"),
        ({"demos": ()}, r"demos is empty; allowed: at least one"),
        ({"seeds": (-1,)}, r"seeds has -1; allowed: from 0 on"),
        ({"pretrain": ("4d",)}, r"pretrain is '4d'; allowed: 'scratch', '2d', '3d'"),
        ({"policies": ("act",)}, r"policies is 'act'; allowed: 'para', 'regression'"),
        ({"n_episodes": 101}, r"n_episodes is 101; allowed: 1 to 100, which few_shot has"),
        ({"n_parallel": 0}, r"n_parallel is 0; allowed: at least 1"),
    ],
)
def test_what_cannot_be_a_cell_is_named(data: Path, tmp_path: Path, changed: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        fewshot.main(dataclasses.replace(small(data, tmp_path / "out"), **changed))
    assert not (tmp_path / "out").exists()


def test_pictures_with_a_robot_are_no_circles(data: Path, tmp_path: Path) -> None:
    cfg = dataclasses.replace(small(data, tmp_path / "out"), circles=data / "robot")
    with pytest.raises(BadInput, match=r"circles is .*, in which a robot is seen; allowed: data of --overlay circle"):
        fewshot.main(cfg)


def test_a_training_that_fails_is_named(data: Path, tmp_path: Path) -> None:
    """By its log's last line; nothing after it is begun."""
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain/para_2d").write_text("in the way")
    with pytest.raises(BadInput, match=r"training of .*para_2d ended with status 2: error: .*\(see .*para_2d\.log\)"):
        fewshot.main(small(data, tmp_path))
    assert not (tmp_path / "tune").exists()
    assert not (tmp_path / "rollout").exists()
