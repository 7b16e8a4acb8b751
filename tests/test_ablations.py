"""The ablations' table: what every row trains at every scale, what is refused, and a report of whatever is finished."""

import dataclasses
import json
import re
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml

from eval import ablations, rollout
from eval.ablation_record import RECORD
from eval.ablation_rows import FOLDER, REFERENCE, Group, Plan, plan, read_rows, read_scale
from eval.ablations import Config
from eval.ablations_report import report
from eval.lease import take
from train_stages import joint, video
from videopolicy.config import load, to_dict
from videopolicy.data.files import append_jsonl, make_folder
from videopolicy.diffusion import sample_sigma
from videopolicy.errors import BadInput
from videopolicy.rates import wilson95
from videopolicy.training.resume import leaves

SCALES = ("cpu", "gpu", "full")


@cache
def plans(name: str, output: Path = Path("out"), rows: tuple[str, ...] = ()) -> dict[str, Plan]:
    short, scale = read_scale(name)
    return {each: plan(each, row, scale, output, 2) for each, row in read_rows(rows, short, scale).items()}


@cache
def stage_two(scale: str, name: str) -> joint.Config:
    return load(joint.Config, plans(scale)[name].joint.words()[1:])


@pytest.mark.parametrize("scale", SCALES)
def test_every_command_is_one_that_its_script_takes(scale: str) -> None:
    """Both stages and the rollouts, and that the stages agree with each other."""
    every = plans(scale)
    stages = {p.video.run: load(video.Config, p.video.words()[1:]) for p in every.values() if p.video is not None}
    for name, p in every.items():
        if scale == "gpu" and p.row.group not in ("core", "frames"):  # full has them all with the same recipes
            continue
        two = stage_two(scale, name)
        acts = load(rollout.Config, p.rollout_words[2:])
        assert (two.run, list(acts.policies)) == (p.folder / "joint", [name])
        assert acts.n_execute <= two.head.n_steps
        assert two.head.n_steps % (two.backbone.n_frames - 1) == 0
        assert not acts.oracle
        assert two.future == "noised" or two.backbone.tune == "frozen"
        high = dataclasses.replace(two.noise, high_share=1.0)
        assert (sample_sigma(high, 50, torch.Generator()) >= two.head_sigma_min).all()
        assert two.init_from == (p.video.run if p.video else None)
        if p.video is not None:
            one = stages[p.video.run]
            same = ("image_size", "n_frames", "augmentation", "pretrained")
            assert [getattr(one.backbone, key) for key in same] == [getattr(two.backbone, key) for key in same]
            assert one.data == two.data


def differing(scale: str, name: str, other: str) -> set[str]:
    """Keys of stage two, but for its folder and its length."""
    one, two = (dict(leaves(to_dict(stage_two(scale, each)))) for each in (name, other))
    return {key for key in one if one[key] != two[key]} - {"run", "train.n_steps", "train.val_every"}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("global", {"head.kind"}),
        ("head_tracks", {"head.kind"}),
        ("scratch", {"init_from"}),
        ("frozen", {"backbone.tune"}),
        ("lr_unet_tenfold", {"lr_unet"}),
        ("demos_20", {"data.n_train_episodes", "init_from"}),
        ("sigma_20", {"backbone.feature_sigma", "noise.high_min", "noise.high_max", "head_sigma_min"}),
        ("blocks_1", {"backbone.feature_blocks"}),
    ],
)
def test_rows_differ_from_the_reference_in_what_they_say(name: str, keys: set[str]) -> None:
    for scale in ("cpu", "full"):
        assert differing(scale, name, REFERENCE) == keys


def test_frozen_rows_differ_from_each_other_in_one_thing() -> None:
    assert differing("full", "frozen_norm", "frozen") == {"noise.high_share"}
    assert differing("full", "frozen_raw", "frozen_norm") == {"head.standardise"}
    assert differing("full", "frozen_sigma_20_hidden", "frozen_sigma_20") == {"future"}
    assert differing("full", "frozen_no_stage_one", "frozen_norm") == {"init_from"}


def test_steps_are_a_share_of_the_published_schedule() -> None:
    full, cpu = plans("full"), plans("cpu")
    steps = {name: (p.video.n_steps if p.video else 0, p.joint.n_steps) for name, p in full.items()}
    assert steps["two_stage"] == steps["global"] == (4000, 3000)
    assert (steps["scratch"], steps["frozen"], steps["global_published"]) == ((0, 10000), (4000, 12000), (4000, 2000))
    assert {(p.video.n_steps, p.joint.n_steps) for p in cpu.values() if p.row.group in ("heads", "sigma")} == {
        (280, 210)
    }
    assert (cpu["scratch"].joint.n_steps, cpu["frozen"].joint.n_steps) == (700, 840)
    for every in (full, cpu):  # a frozen model's head gets the operations that joint training would have had
        for p in (p for p in every.values() if p.row.group == "freezing"):
            total = p.joint.n_steps * p.scale.frozen + (p.video.n_steps if p.video else 0)
            assert total == pytest.approx(p.scale.share * 7000, rel=2e-3)


def test_rows_share_what_they_begin_from() -> None:
    """One stage one for all rows but those that change it, whichever head comes after."""
    users: dict[str, set[str]] = {}
    for p in plans("full").values():
        users.setdefault(p.video.run.name if p.video else "none", set()).add(p.name)
    assert users["none"] == {"scratch", "frozen_no_stage_one"}
    assert users["data-n_train_episodes-20"] == {"demos_20", "demos_20_global"}
    assert {"two_stage", "global", "frozen", "frozen_raw", "sigma_20", "head_tracks"} <= users["common"]
    assert len(users) == 6  # and 256 demonstrations, clips of 4 frames and of 13


def test_core_rows_take_an_hour_and_a_half_by_the_estimate() -> None:
    core = ablations.describe(list(plans("cpu", rows=("core",)).values()))
    assert set(core) == {"video/common", "two_stage", "scratch", "frozen", "global"}
    every = plans("cpu")
    hours = sum(p.seconds for p in every.values()) / 3600
    stage_one = 280 * next(iter(every.values())).scale.seconds["video"]
    assert sum(every[name].seconds for name in core if name in every) + stage_one < 90 * 60
    assert hours + 3 * stage_one / 3600 < 10


def test_what_is_shipped_says_its_command() -> None:
    for path in sorted(FOLDER.rglob("*.yaml")):
        comment = "".join(line for line in path.read_text().splitlines(True) if line.startswith("#"))
        words = re.search(r"#\s+python -m eval\.ablations (--scale .*)", comment)[1].replace('"', "").split(maxsplit=3)
        cfg = load(Config, words)
        if path.parent == FOLDER:
            assert path.stem not in get_args(Group)
            assert cfg.rows == (path.stem,)
            assert path.stem in plans(cfg.scale)
        else:
            assert cfg.scale == path.stem


def test_a_dry_run_prints_every_command_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for scale in SCALES:
        shares = ablations.main(Config(scale, output=tmp_path / "out", dry_run=True))
        said = capsys.readouterr().out
        assert sum(shares.values()) == pytest.approx(1)
        for p in plans(scale, tmp_path / "out" / scale).values():
            assert f"  python {' '.join(p.joint.words()[:3])} --run {p.joint.run} " in said
            assert f"\n{p.name}: " in said
        assert "Estimated, not measured" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"scale": "tpu"}, r"scale is 'tpu'; allowed: cpu, full, gpu, or the path of a YAML file"),
        ({"rows": ("frosen",)}, r"rows is 'frosen'; allowed: 'core', .*'frozen', "),
        ({"rows": ("frames_4",)}, r"rows has 'frames_4', but scale is cpu; allowed for it: gpu, full"),
        ({"rows": ("frames",)}, r"scale cpu has none of the rows \['frames'\]"),
        ({"n_cores": 0}, r"n_cores is 0; allowed: at least 1"),
        ({"launcher": " "}, r"launcher is ' '; allowed: a command"),
    ],
)
def test_what_cannot_be_run_is_named(tmp_path: Path, changed: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        ablations.main(dataclasses.replace(Config(output=tmp_path / "out"), **changed))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"share": 2.0}, r"share is 2.0; allowed: above 0 to 1"),
        ({"frozen": 0.0}, r"frozen is 0.0; allowed: above 0 to 1"),
        ({"n_validations": 0}, r"n_validations is 0; allowed: at least 1"),
        ({"seconds": {"video": 1.0}}, r"seconds lacks joint, frozen, episode; allowed: all of video"),
        ({"shares": 0.1}, r"unknown key 'shares'; did you mean 'share'"),
        (
            {"recipes": {"video": "a", "joint": "nowhere.yaml", "rollout": "c"}},
            r"cannot read nowhere.yaml: No such file",
        ),
        ({"like": "tpu"}, r"rows has 'two_stage', but scale is tpu; allowed for it: cpu, gpu, full"),
        (
            {"collections": {}},
            r"data.root is data/left_half, which is not there; allowed: a dataset, or one of the scale's collections",
        ),
    ],
)
def test_what_is_no_scale_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict, words: str) -> None:
    scale = yaml.safe_load((FOLDER / "scales/cpu.yaml").read_text())
    scale |= {"like": "cpu", "recipes": {k: str(FOLDER.parent.parent / v) for k, v in scale["recipes"].items()}}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(scale | change))
    with pytest.raises(BadInput, match=words):
        ablations.main(Config("own.yaml", ("two_stage",), tmp_path / "out"))


def test_a_row_multiplies_numbers_alone(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    short, scale = read_scale("cpu")
    (rows / "lr.yaml").write_text("times: {lr_unt: 0.1}\n")
    with pytest.raises(BadInput, match=r"row lr: times has 'lr_unt'; allowed: .*lr_unet"):
        plan("lr", read_rows((), short, scale, rows)["lr"], scale, tmp_path, 1)
    (rows / "lr.yaml").write_text("group: rats\n")
    with pytest.raises(BadInput, match=r"lr.yaml: .*'core', 'schedule'|lr.yaml: .*core, schedule"):
        read_rows((), short, scale, rows)


def episodes(p: Plan, split: str, outcomes: list[str]) -> None:
    """Of a row's policy, in order."""
    make_folder(p.folder / "rollout")
    for number, outcome in enumerate(outcomes):
        about = {"seed": number, "group": number, "commit": "c1", "digest": p.name, "dataset": "d", "code": "x"}
        line = {"policy": p.name, "split": split, "episode": number, "outcome": outcome, **about}
        append_jsonl(p.folder / "rollout/episodes.jsonl", line)


def training(run: Path, steps: int) -> None:
    """What a run says of itself while it trains."""
    make_folder(run)
    settings = {"train": {"batch_size": 8}, "data": {"n_val_episodes": 8}}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    append_jsonl(run / "metrics.jsonl", {"step": 9, "seconds": 30.0, "gflop_per_sample": 28.6, "total": 1.0})
    append_jsonl(run / "metrics.jsonl", {"step": steps - 1, "seconds": 90.0, "gflop_per_sample": 28.6})
    append_jsonl(run / "metrics.jsonl", {"step": steps - 1, "val/position_mm": 41.26})


def test_the_table_is_of_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A finished row, one whose rollouts are under way, one that trains, and those that have not begun."""
    every = plans("cpu", tmp_path)
    two, frozen, scratch = (every[name] for name in (REFERENCE, "frozen", "scratch"))
    training(two.video.run, 280)
    training(two.joint.run, 210)
    episodes(two, "seen", ["place"] * 24 + ["grasp"] * 6 + ["miss"] * 10)
    episodes(two, "unseen", ["place"] * 10 + ["miss"] * 30)
    (two.folder / RECORD).write_text(json.dumps({"peak_gib": 2.5}))
    training(frozen.joint.run, 840)
    episodes(frozen, "seen", ["miss"] * 5)
    training(scratch.joint.run, 120)
    with take(tmp_path / "leases", "row_scratch"):
        about = report(tmp_path, list(every.values()))
    seen, unseen, partial = about["rows"]
    assert (seen["row"], seen["split"], seen["n"], seen["place"], seen["grasp"]) == (
        "two_stage",
        "seen",
        40,
        60.0,
        15.0,
    )
    assert (seen["weighted"], seen["wilson95"], seen["finished"]) == (67.5, list(wilson95(24, 40)), True)
    assert seen["stages"]["joint"] == {
        "steps": 210,
        "of": 210,
        "minutes": 1.5,
        "pflop": 0.048,
        "held_out_mm": 41.3,
        "commits": [],
    }
    assert seen["stages"]["video"]["steps"] == 280
    assert seen["against"] is None
    assert (unseen["split"], unseen["place"]) == ("unseen", 25.0)
    assert (partial["row"], partial["n"], partial["finished"], partial["published"]) == ("frozen", 5, False, 0)
    assert partial["against"] | {"p_grouped": 0, "p": 0} == {
        "n": 5,
        "only_first": 0,
        "only_second": 5,
        "p": 0,
        "p_grouped": 0,
    }
    assert about["unfinished"]["frozen"] == "5 of 80 episodes"
    assert about["unfinished"]["scratch"].startswith("stage two: 120 of 700 steps (process ")
    assert about["unfinished"]["demos_20"] == "stage one: 0 of 280 steps"
    assert "two_stage" not in about["unfinished"]
    assert json.loads((tmp_path / "table.json").read_text()) == about
    lines = (tmp_path / "table.md").read_text().splitlines()
    wilson = "{} to {}".format(*seen["wilson95"])
    spent = "280 + 210 | 1.5 + 1.5 | 0.0641 + 0.048"
    assert lines[2] == f"| two_stage | seen | 40 | 60.0 | {wilson} | 15.0 | 67.5 | 90 |  | {spent} | c1 |"
    assert lines[4].startswith("| frozen (unfinished) | seen | 5 | 0.0 |")
    assert "- frozen: 5 of 80 episodes" in lines
    page = (tmp_path / "report.html").read_text()
    assert "<b>two_stage</b>" in page
    assert "280 + 210" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "1 of " in capsys.readouterr().out


def test_a_table_of_nothing_says_so(tmp_path: Path) -> None:
    about = ablations.main(Config("cpu", ("core",), tmp_path, report_only=True))
    assert about["rows"] == []
    assert about["unfinished"]["scratch"] == "stage two: 0 of 700 steps"
    assert (tmp_path / "cpu/table.md").read_text().startswith("| row | split | n | P |")
