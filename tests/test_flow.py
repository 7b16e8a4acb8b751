"""The whole job in miniature: collect, both stages, rollouts and report, stopped and resumed on the way."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from flows import ROOT, SPEED, config, paths, rollout_config, toy_weights
from safetensors.torch import load_file

from eval import collect, ood, report, rollout
from train_stages import joint, video
from videopolicy import policy
from videopolicy.config import load
from videopolicy.data.files import lock_folder, read_jsonl
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint


def test_demonstrations_succeed_and_open_again(folder: Path) -> None:
    data = Dataset(folder / "data")
    assert len(data) == 4
    assert all(e["placed"] for e in data.extras())
    assert data.frames(3).shape == (data.length(3), 112, 112, 3)


def test_collecting_again_adds_nothing(folder: Path) -> None:
    before = (folder / "data/meta/info.json").read_text()
    collect.main(config(collect.Config, "collect", output=folder / "data"))
    assert (folder / "data/meta/info.json").read_text() == before


@pytest.mark.parametrize(("stage", "name"), [(video, "video"), (joint, "joint_para"), (joint, "joint_global")])
def test_resumed_training_equals_uninterrupted_training(folder: Path, tmp_path: Path, stage: object, name: str) -> None:
    """A run that lost everything after step 2 ends with the same weights and the same metrics, bit for bit."""
    run = tmp_path / name
    shutil.copytree(folder / name, run)
    shutil.rmtree(run / "step_000004")
    overrides = paths(folder, run)
    if stage is joint:
        overrides |= {"init_from": folder / "video", "data__select": "left"}
    stage.main(config(stage.Config, name, **overrides))
    whole, resumed = (load_file(r / "step_000004/model.safetensors") for r in (folder / name, run))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    assert losses(run) == losses(folder / name)


def losses(run: Path) -> list[dict]:
    """Metrics without what a clock says."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k not in SPEED} for r in records]


def test_interrupt_saves_and_the_same_command_continues(folder: Path, tmp_path: Path) -> None:
    overrides = {"run": tmp_path / "run", "data.root": folder / "data", "backbone.pretrained": folder / "weights"}
    arguments = [x for k, v in overrides.items() for x in (f"--{k}", str(v))] + ["--train.n_steps", "400"]
    command = [
        sys.executable,
        str(ROOT / "train_stages/video.py"),
        "--config_path",
        str(ROOT / "configs/debug/video.yaml"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL, env=environment)
    metrics = tmp_path / "run/metrics.jsonl"
    deadline = time.time() + 120
    while time.time() < deadline and not (metrics.exists() and len(metrics.read_text().splitlines()) > 2):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    stopped = checkpoint.read_state(checkpoint.find(tmp_path / "run"))["step"]
    assert 2 <= stopped < 400
    arguments[-1] = str(stopped + 2)
    video.main(load(video.Config, [*command[2:], *arguments]))
    assert checkpoint.read_state(checkpoint.find(tmp_path / "run"))["step"] == stopped + 2
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines() if '"diffusion"' in line]
    assert steps == list(range(stopped + 2))


def test_overfitting_one_batch_lowers_its_loss(folder: Path, tmp_path: Path) -> None:
    overrides = {"data__overfit": True, "train__n_steps": 40, "train__log_every": 1, "preview__clips": 0}
    video.main(config(video.Config, "video", **paths(folder, tmp_path / "run"), **overrides))
    values = [r["diffusion"] for r in losses(tmp_path / "run") if "diffusion" in r]
    assert sum(values[-10:]) < 0.9 * sum(values[:10])


def test_every_rollout_is_recorded_once(folder: Path) -> None:
    """Same episodes for every policy; running again runs nothing."""
    records = read_jsonl(folder / "rollout/episodes.jsonl")
    keys = {(r["policy"], r["split"], r["episode"]) for r in records}
    assert keys == {(p, s, 0) for p in ("svd+para", "svd+global", "oracle") for s in ("seen", "unseen")}
    assert len(records) == len(keys)
    assert len({tuple(r["bowl_xy"]) for r in records}) == 2
    assert all(r["outcome"] in ("place", "grasp", "miss") and r["chunks"] <= 2 for r in records)
    before = (folder / "rollout/episodes.jsonl").read_text()
    rollout.main(rollout_config(folder))
    assert (folder / "rollout/episodes.jsonl").read_text() == before


def test_episodes_of_other_weights_are_never_mixed(folder: Path) -> None:
    for change in ({"n_execute": 2}, {"ensemble": "all"}):
        with pytest.raises(BadInput, match="with other weights or another protocol"):
            rollout.main(replace(rollout_config(folder), **change))


def test_other_episodes_of_the_same_number_are_never_mixed(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "rollout", tmp_path / "rollout")
    records = read_jsonl(tmp_path / "rollout/episodes.jsonl")
    records[-1]["seed"] += 1
    (tmp_path / "rollout/episodes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    lines = [{k: v for k, v in r.items() if k != "commit"} for r in read_jsonl(folder / "rollout/episodes.jsonl")]
    shutil.copytree(folder / "rollout", tmp_path / "older")
    (tmp_path / "older/episodes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    with pytest.raises(BadInput, match="holds episodes of an older version, without commit; name another output"):
        rollout.main(replace(rollout_config(folder), output=tmp_path / "older"))
    with pytest.raises(BadInput, match=f"another seed: {records[-1]['seed']}, which is now {records[-1]['seed'] - 1}"):
        rollout.main(replace(rollout_config(folder), output=tmp_path / "rollout"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"code": "x"}, "mixes episodes of different codes: "),
        ({"dataset": "x"}, "mixes episodes of different datasets: "),
        ({"digest": "x"}, "mixes episodes of 'svd.*' of different weights or protocols: "),
        ({}, "line 7 is episode 0 of .* once more"),
    ],
)
def test_what_is_not_comparable_is_never_mixed(folder: Path, tmp_path: Path, change: dict, words: str) -> None:
    """Neither in a report nor by going on: one code, one dataset, of each policy one set of weights, each once."""
    shutil.copytree(folder / "rollout", tmp_path / "rollout")
    file = tmp_path / "rollout/episodes.jsonl"
    records = read_jsonl(file)
    records = [*records[1:], records[0] | change] if change else [*records, records[0]]
    if "digest" in change:  # one episode of a policy more, of other weights
        records = [*read_jsonl(file), records[-1] | {"episode": 5}]
    file.write_text("".join(json.dumps(r) + "\n" for r in records))
    with pytest.raises(BadInput, match=words):
        report.main(tmp_path)
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(BadInput, match=words):
        rollout.main(replace(rollout_config(folder), output=tmp_path / "rollout"))


def test_two_evaluators_do_not_share_a_folder(folder: Path) -> None:
    before = (folder / "rollout/episodes.jsonl").read_text()
    with lock_folder(folder / "rollout"), pytest.raises(BadInput, match=r"process \d+ on .* is writing to"):
        rollout.main(rollout_config(folder))
    assert (folder / "rollout/episodes.jsonl").read_text() == before


def test_a_video_policy_takes_an_axis(folder: Path, tmp_path: Path) -> None:
    """As every policy does, and with a report of its own."""
    axis = {"splits": ("left_right",), "n_episodes": 1, "oracle": False, "output": tmp_path / "rollout/left_right"}
    rollout.main(replace(rollout_config(folder), **axis))
    rows = ood.main(tmp_path)["rows"]
    assert [(r["axis"], r["policy"], r["n"], r["demonstrations"]) for r in rows] == [
        ("left_right", p, 1, 3) for p in ("svd+para", "svd+global")
    ]


def test_oracle_places_every_bowl(folder: Path, tmp_path: Path) -> None:
    """True waypoints through head, lifting and executor: the ceiling of any prediction."""
    policies = {"p": str(folder / "joint_para")}
    cfg = replace(rollout_config(folder), output=tmp_path, n_oracle=1, n_episodes=0, max_chunks=12, policies=policies)
    records = rollout.main(cfg)
    assert [(r["policy"], r["split"], r["outcome"]) for r in records] == [
        ("oracle", split, "place") for split in ("seen", "unseen")
    ]


def test_report_counts_what_was_recorded(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    assert [(r["policy"], r["split"], r["n"]) for r in summary["rows"]] == [
        (p, s, 1) for p in ("svd+para", "svd+global") for s in ("seen", "unseen")
    ]
    assert all(r["weighted"] == r["place"] + 0.5 * r["grasp"] for r in summary["rows"])
    assert {r["camera"] for r in summary["sensitivity"]["rows"]} == {f"of {folder / 'data'}"}
    for name in ("joint_para", "joint_global"):
        assert {"position_mm", "leak/sigma_200_mm", "leak/swap_mm"} < summary["validation"][name].keys()
    assert sum(r["n"] for r in summary["by_distance"] if r["policy"] == "svd+para") == 2
    page = (folder / "report.html").read_text()
    assert page.count("<td>svd+coordinate regression</td>") == 3  # two halves, and by distance
    assert re.search(r"<b>[0-9]+ %</b> of 1<br>[0-9]+ . [0-9]+", page)
    assert page.count("data:video/mp4") == 4
    assert "one pixel down" in page
    words = re.sub(r"data:[a-z0-9/+]+;base64,[A-Za-z0-9+/=]+", "", page)  # pictures' codes may hold any word
    assert len(words) < 20_000
    assert "http" not in words.replace("https://", "http://").replace("http://www.w3.org", "")


def test_bad_input_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    here = paths(folder, tmp_path / "run")
    with pytest.raises(BadInput, match="no checkpoint in"):
        joint.main(config(joint.Config, "joint_para", init_from=tmp_path / "nowhere", **here))
    toy = {**here, "backbone__pretrained": toy_weights(tmp_path)}
    with pytest.raises(BadInput, match="trained with the VAE and image encoder"):
        joint.main(config(joint.Config, "joint_para", init_from=folder / "video", **toy))
    with pytest.raises(BadInput, match="stage-one checkpoint, without an action head"):
        policy.load(folder / "video")
    with pytest.raises(BadInput, match=r"image_size is \(100, 112\), but .*weights was made for \[64, 64\]"):
        video.main(config(video.Config, "video", backbone__image_size="[100, 112]", **here))
    with pytest.raises(BadInput, match="no sample would train the head"):
        joint.main(config(joint.Config, "joint_para", init_from=folder / "video", noise__high_share=0, **here))
    with pytest.raises(BadInput, match=r"head_sigma_min is 900.0; allowed: 0.002 to 700"):
        joint.main(config(joint.Config, "joint_para", init_from=folder / "video", head_sigma_min=900, **here))
    blocked = folder / "data/meta/info.json"
    with pytest.raises(BadInput, match="cannot write to the folder"):
        video.main(config(video.Config, "video", **paths(folder, blocked / "run")))
    assert not (tmp_path / "run").exists()


def test_what_does_not_belong_together_is_refused(folder: Path, tmp_path: Path) -> None:
    """Other trained weights in an old run, another seed in an old dataset, two writers, steps between frames."""
    again = paths(folder, "video")
    before = (folder / "video/config.yaml").read_text()
    with pytest.raises(BadInput, match=r"backbone.tune +\"full\" +\"temporal\" +cannot change"):
        video.main(config(video.Config, "video", backbone__tune="temporal", **again))
    with lock_folder(folder / "video"), pytest.raises(BadInput, match=r"process \d+ on .* is writing to"):
        video.main(config(video.Config, "video", **again))
    assert (folder / "video/config.yaml").read_text() == before
    with pytest.raises(BadInput, match="not position 0 of 4"):
        collect.main(config(collect.Config, "collect", output=folder / "data", seed=1))
    here = {**paths(folder, tmp_path / "run"), "init_from": folder / "video"}
    with pytest.raises(BadInput, match="n_steps is 5; allowed: multiples of the 2 frames"):
        joint.main(config(joint.Config, "joint_para", head__n_steps=5, **here))
    with pytest.raises(BadInput, match="n_execute is 9; allowed: at most the 6 steps"):
        rollout.main(replace(rollout_config(folder), n_execute=9))
    with pytest.raises(BadInput, match="splits is empty; allowed: one or more of left_right"):
        rollout.main(replace(rollout_config(folder), splits=()))
    with pytest.raises(BadInput, match="policies has the name 'a/b'"):
        rollout.main(replace(rollout_config(folder), policies={"a/b": str(folder / "joint_para")}))


def test_report_refuses_heads_from_different_backbones(folder: Path, tmp_path: Path) -> None:
    for name in ("rollout", "joint_para"):
        shutil.copytree(folder / name, tmp_path / name)
    scratch = paths(folder, tmp_path / "joint_global")
    joint.main(config(joint.Config, "joint_global", init_from="null", **scratch))
    with pytest.raises(BadInput, match="differ in 'stage_one'"):
        report.main(tmp_path)


def test_dry_run_writes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    video.main(config(video.Config, "video", dry_run=True, **paths(folder, tmp_path / "run")))
    assert "parameters: unet" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
