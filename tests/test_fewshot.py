"""Few-shot tuning: nested choices of demonstrations, every cell by one command, and the tables of what was run."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from builders import CIRCLE, snapshot, write_dataset
from waiting import wait_for

from eval import fewshot, fewshot_report
from eval.fewshot_cells import Cell, Config, cells_of, rounds
from eval.fewshot_training import CONFIGS, training, trainings_of
from videopolicy.config import load
from videopolicy.data.dataset import DataConfig, split_episodes
from videopolicy.data.episode import Episode
from videopolicy.data.files import append_jsonl, make_folder
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput
from videopolicy.rates import wilson95
from videopolicy.training import checkpoint

SUITE = CONFIGS / "suite.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations that say where the bowl stood, and the same with a circle for a robot."""
    root = tmp_path_factory.mktemp("data")

    def placed(number: int, one: Episode) -> Episode:
        return dataclasses.replace(one, extra={**one.extra, "bowl_xy": [-0.2, 0.1 * number]})

    write_dataset(root / "robot", lengths=(6, 5, 5, 6), change=placed)
    write_dataset(root / "circles", lengths=(6, 6, 6), overlay=CIRCLE)
    return root


def test_drawn_arms_are_for_heatmaps_alone() -> None:
    cfg = load(Config, ["--config_path", str(SUITE)])
    for pretrain in ("2d", "3d"):
        cells = (Cell(kind, pretrain, 10, 0) for kind in ("para", "regression"))
        para, regression = (trainings_of(cfg, cell, 256)["pretraining"].settings() for cell in cells)
        assert {n for n in para if para[n] != regression[n]} == {"run", "head.kind", "augment.limbs"}
        assert (para["augment.limbs"], regression["augment.limbs"]) == (0.8, 0.0)


def small(data: Path, output: Path, **changed: object) -> Config:
    cfg = Config(output, data / "robot", data / "circles", ("para",), ("2d",), (1,), seeds=(0,))
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


def suite(*options: str) -> Config:
    return load(Config, ["--config_path", str(SUITE), *options])


def test_cells_are_those_of_the_tables() -> None:
    """Two heads, three beginnings, five numbers and two seeds; from all demonstrations none is pretrained."""
    cells = cells_of(suite(), 256)
    assert len(cells) == len(set(cells)) == 2 * 3 * 5 * 2 + 2 * 2 + 2 * 2
    assert {c.pretrain for c in cells if c.demos == 256} == {"scratch"}
    assert {(c.kind, c.demos) for c in cells if c.pretrain == "equal"} == {("para", 10), ("regression", 10)}
    assert Cell("regression", "3d", 10, 1) in cells
    assert len(cells_of(suite("--demos", "[5, 5]"), 256)) == 2 * 3 * 2
    assert len(cells_of(suite("--demos", "[10]", "--pretrain", "[3d]"), 256)) == 2 * 2
    with pytest.raises(BadInput, match=r"all 256 demos are only from scratch; allowed: scratch"):
        cells_of(suite("--demos", "[256]", "--pretrain", "[3d]"), 256)


def test_what_is_claimed_comes_first() -> None:
    """Every cell once, seeds of a row side by side, whatever the order in which the suite names them."""
    cells = cells_of(suite(), 256)
    found = rounds(cells)
    assert [c for its in found for c in its] != cells
    assert sorted(c.name for its in found for c in its) == sorted(c.name for c in cells)
    names = [[c.name for c in its] for its in found]
    assert names[0] == ["para_scratch_10_0", "para_scratch_10_1", "para_3d_10_0", "para_3d_10_1"]
    assert set(names[1]) == {f"para_{p}_5_{s}" for p in ("scratch", "3d") for s in (0, 1)}
    firsts = {f"para_{p}_{n}_{s}" for p in ("scratch", "2d") for n in (1, 3, 5) for s in (0, 1)}
    assert set(names[2]) == firsts - set(names[1])
    assert names[3] == ["para_equal_10_0", "para_equal_10_1"]
    assert {(c.demos, c.kind) for c in found[4]} == {(20, "para"), (20, "regression")}
    assert [{c.demos for c in its} for its in found[5:]] == [{1}, {3}, {5}, {10}, {256}]
    assert rounds(cells_of(suite("--demos", "[256]", "--policies", "[regression]"), 256)) == [
        [Cell("regression", "scratch", 256, 0), Cell("regression", "scratch", 256, 1)]
    ]


def test_equal_compute_is_as_many_steps_of_the_same_batches() -> None:
    """From the same few demonstrations, and from no other run."""
    pretrained, plain, equal = (trainings_of(suite(), Cell("para", p, 10, 1), 256) for p in ("3d", "scratch", "equal"))
    assert [*pretrained] == ["pretraining", "tuning"]
    assert [*plain] == [*equal] == ["tuning"]
    assert equal["tuning"].n_steps == sum(t.n_steps for t in pretrained.values()) == 1700
    settings = [its["tuning"].settings() for its in (plain, equal)]
    differ = {name for name in settings[0] if settings[0][name] != settings[1][name]}
    assert differ == {"run", "train.n_steps", "train.val_every"}
    assert {t.settings()["train.batch_size"] for t in pretrained.values()} == {settings[1]["train.batch_size"]}
    assert trainings_of(suite(), Cell("para", "scratch", 256, 0), 256)["tuning"].n_steps == 1300


def test_a_cell_is_pretrained_tuned_rolled_out_and_reported(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """By one command, beside another one that needs a run that is damaged; the same again finds it done."""
    broken = tmp_path / "pretrain/para_3d"
    make_folder(broken / "step_000001")
    (broken / "latest").write_text("step_000001")
    words = r"left out para_3d_1_0: every checkpoint of .*para_3d is damaged: .*; remove it, and it is trained anew$"
    with pytest.raises(BadInput, match=words):
        fewshot.main(small(data, tmp_path, pretrain=("3d", "2d")))
    assert "left out para_3d of what circles say of robots: every checkpoint of" in capsys.readouterr().out
    shutil.rmtree(broken)
    summary = json.loads((tmp_path / "summary.json").read_text())
    (row,) = summary["rows"]
    assert (row["policy"], row["pretrain"], row["demos"], row["n"], row["steps"]) == ("para", "2d", 1, 1, [1, 1])
    tuned = checkpoint.find(tmp_path / "tune/para_2d_1_0")
    source = checkpoint.find(tmp_path / "pretrain/para_2d")
    assert checkpoint.read_state(tuned)["init_from"] == checkpoint.weights_digest(source)
    assert checkpoint.read_config(tuned)["data"]["subset_seed"] == 0
    shots = {(r["run"], r["scenes"]): r for r in summary["zero_shot"]}
    assert set(shots) == {("para_2d", "circles"), ("para_2d", "robot")}
    assert all(r["n"] > 0 and r["pixel"] > 0 for r in shots.values())
    page = (tmp_path / "report.html").read_text()
    assert "circle scenes above, robot scenes" in page
    assert [(r["policy"], r["n"], r["place"]) for r in summary["oracle"]] == [("oracle", 1, 100.0)]
    assert {r["cause"] for r in summary["sensitivity"]["rows"]} >= {"one pixel down", "camera pitched by 1 degree"}
    assert "oracle: placed <b>100.0 %</b> of 1 (Wilson" in page
    assert "camera panned by 1 degree" in page
    assert json.loads((tmp_path / "summary.json").read_text())["rows"] == summary["rows"]
    before = snapshot(tmp_path / "rollout")
    assert fewshot.main(small(data, tmp_path))["rows"] == summary["rows"]
    assert "1 of 1 cells are done" in capsys.readouterr().out
    assert snapshot(tmp_path / "rollout") == before

    # Small files are all that another machine needs to take it for done, and to report it.
    away = tmp_path / "away"
    for folder in ("rollout", "zero_shot", "oracle"):
        shutil.copytree(tmp_path / folder, away / folder, ignore=shutil.ignore_patterns("videos"))
    assert fewshot_report.report(away)["zero_shot"] == summary["zero_shot"]
    assert fewshot.main(small(data, away))["rows"] == summary["rows"]
    assert {p.name for p in away.iterdir()} == {"rollout", "zero_shot", "oracle", "summary.json", "report.html"}

    # What is there is not what is asked for: nothing is run, and nothing is taken for it.
    shutil.copytree(data / "robot", tmp_path / "other")
    with pytest.raises(
        BadInput, match=r"para_2d_1_0 is of a policy with tuning\.data\.root .*robot, not .*other; name"
    ):
        fewshot.main(dataclasses.replace(small(data, away), robot=tmp_path / "other"))
    with pytest.raises(BadInput, match=r"with pretraining\.train\.n_steps 1, not 2; name another"):
        fewshot.main(dataclasses.replace(small(data, away), n_steps_pretrain=2))
    written = away / "rollout/para_2d_1_0/cell.json"
    made = json.loads(written.read_text())
    for change, words in (
        ({"tuning.augment.limbs": "0.5"}, r"with tuning\.augment\.limbs 0\.5, not without; name another"),
        ({"pretraining.augment.limbs": None}, r"without pretraining\.augment\.limbs, not with 0\.8; name another"),
    ):
        written.write_text(json.dumps({k: v for k, v in (made | change).items() if v is not None}))
        with pytest.raises(BadInput, match=f"para_2d_1_0 is of a policy {words}"):
            fewshot.main(small(data, away))
    shutil.rmtree(tmp_path / "rollout")
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


def test_the_table_is_of_what_was_rolled_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """P, G and P + G / 2 over all seeds together, beside what each placed and what was published."""
    make_folder(tmp_path / "rollout/10")
    for seed, (n_placed, n_grasped) in enumerate(((6, 2), (8, 1))):
        for i in range(10):
            outcome = "place" if i < n_placed else "grasp" if i < n_placed + n_grasped else "miss"
            append_jsonl(tmp_path / "rollout/10/episodes.jsonl", line(f"para_3d_10_{seed}", i, outcome))
    append_jsonl(tmp_path / "rollout/10/episodes.jsonl", line("regression_scratch_10_0", 0, "miss"))
    make_folder(tmp_path / "zero_shot")
    shot = {"run": "para_3d", "scenes": "robot", "n": 9, "pixel": 3.5, "bootstrap95": [3.0, 4.0], "stays": 20.0}
    (tmp_path / "zero_shot/para_3d.json").write_text(json.dumps({"rows": [shot]}))
    (tmp_path / "zero_shot/para_2d.json").write_text(json.dumps({"rows": [{"run": "para_2d"}]}))
    summary = fewshot_report.report(tmp_path)
    assert summary["zero_shot"] == [shot]
    assert "left out: cannot read " in (said := capsys.readouterr().out)
    assert "zero_shot/para_2d.json: KeyError: 'scenes'" in said
    para, regression = summary["rows"]
    assert (para["policy"], para["pretrain"], para["demos"], para["n"]) == ("para", "3d", 10, 20)
    assert (para["place"], para["grasp"], para["weighted"]) == (70.0, 15.0, 77.5)
    assert para["wilson95"] == list(wilson95(14, 20))
    assert para["wilson95_grouped"][0] < para["wilson95"][0]
    assert (para["place_of_seeds"], para["paper"]) == ([60.0, 80.0], 66)
    assert (regression["policy"], regression["place"], regression["paper"]) == ("regression", 0.0, 6)
    assert summary["oracle"] == []
    page = (tmp_path / "report.html").read_text()
    assert "The oracle has not been rolled out" in page
    assert not re.findall(r"(?<![Cc]oordinate )(?<![a-z])regression(?!</code>)", re.sub(r"base64,[^\"]+", "", page))
    with pytest.raises(BadInput, match=r"no episodes under .*; run eval\.fewshot first"):
        fewshot_report.report(tmp_path / "empty")
    make_folder(tmp_path / "rollout/para_3d_10_0")
    append_jsonl(tmp_path / "rollout/para_3d_10_0/episodes.jsonl", line("para_3d_10_0", 0, "miss"))
    with pytest.raises(BadInput, match=r"rollout/10 and .*rollout/para_3d_10_0 both hold episodes of para_3d_10_0"):
        fewshot_report.report(tmp_path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"demos": (1, 5)}, r"demos has 5; allowed: 1 to the 4 demonstrations of"),
        (
            {"equal_compute": (4,)},
            r"equal_compute has 4; allowed: 1 to the 4 demonstrations of .*, but not all of them",
        ),
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


def test_circles_are_no_robots_demonstrations(data: Path, tmp_path: Path) -> None:
    cfg = dataclasses.replace(small(data, tmp_path / "out"), robot=data / "circles")
    with pytest.raises(BadInput, match=r"robot is .*circles, without a robot in the picture; allowed: demonstrations"):
        fewshot.main(cfg)
    assert not (tmp_path / "out").exists()


def test_a_training_that_fails_is_named(data: Path, tmp_path: Path) -> None:
    """By its log's last line; nothing after it is begun."""
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain/para_2d").write_text("in the way")
    with pytest.raises(BadInput, match=r"training of .*para_2d ended with status 2: error: .*\(see .*para_2d\.log\)"):
        fewshot.main(small(data, tmp_path))
    assert not (tmp_path / "tune").exists()
    assert not (tmp_path / "rollout").exists()


def test_who_ends_it_ends_its_trainings(data: Path, tmp_path: Path) -> None:
    """They save, and nothing of them goes on: the same command would find their run taken."""
    words = [
        f"--{k}={v}" for k, v in {"output": tmp_path, "robot": data / "robot", "circles": data / "circles"}.items()
    ]
    words += ["--policies=[para]", "--pretrain=[scratch]", "--demos=[1]", "--equal_compute=[]", "--n_steps=100000"]
    command = [sys.executable, "-m", "eval.fewshot", f"--config_path={SUITE}", *words]
    whole = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    logs = [tmp_path / f"tune/para_scratch_1_{seed}.log" for seed in (0, 1)]
    try:
        wait_for(lambda: all(log.exists() and " eta " in log.read_text() for log in logs), patience=240)
        trainings = psutil.Process(whole.pid).children()
        assert len(trainings) == 2
        whole.terminate()
        assert whole.wait(timeout=120) != 0
        psutil.wait_procs(trainings, timeout=1)
        assert not any(training.is_running() for training in trainings)
    finally:
        whole.kill()
    for seed in (0, 1):
        assert checkpoint.find(tmp_path / f"tune/para_scratch_1_{seed}").name.startswith("step_")
