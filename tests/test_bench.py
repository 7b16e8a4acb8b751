"""The heads' exact forms stay cheap: about half of what was measured must be left on any machine."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from flows import config

from bench import arm, cache, heads, rollout, svd, svd_speed
from train_stages import light, video

FLOORS = {  # row: (memory, time), naive over ours; goals (`heads.GOALS`) are twice that
    "factored_loss": (50, 40),
    "volume_loss": (30, 2.5),
    "volume_argmax": (10, 10),
    "levels_embedding": (3, 2.5),
}
CEILINGS = {"step_share_factored": 0.04, "step_share_volume": 0.08}  # of the backbone's time


@pytest.mark.timing
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


def test_a_goal_that_is_missed_is_named() -> None:
    """`bench.heads --check` ends by them; each goal stands beside its ratio."""
    met = {"factored_loss": (100, 100), "volume_loss": (60, 4), "volume_argmax": (1, 20), "levels_embedding": (1, 2.5)}
    met |= {"step_share_factored": (9, 0.02), "step_share_volume": (9, 0.05)}
    for name, (memory, time) in met.items():
        row = {"name": name, "memory_ratio": memory, "time_ratio": time}
        assert not heads.missed(row)
        assert heads.goal(row).endswith(": met")
        worse = row | {"time_ratio": time * (1.01 if "share" in name else 0.99)}
        assert heads.missed(worse)
        assert heads.goal(worse).endswith(": missed")
        assert heads.missed(row | {"memory_ratio": memory * 0.99}) == (name in ("factored_loss", "volume_loss"))


@pytest.mark.timing
def test_a_cached_clip_is_read_fast(tmp_path: Path) -> None:
    found = cache.main(["--json", str(tmp_path / "figures/bench.json")])  # a folder that is not there yet
    assert json.loads((tmp_path / "figures/bench.json").read_text()) == found
    assert found["ratio"] >= 25, found


@pytest.mark.timing
def test_training_hardly_waits_for_data(small_dataset: Path, pipeline_folder: Path, tmp_path: Path) -> None:
    """With one worker and the cache, which is full after the first step."""
    where = {"run": tmp_path / "run", "data__root": small_dataset, "backbone__pretrained": pipeline_folder}
    shape = {"backbone__n_frames": 4, "backbone__grid": 8, "preview__clips": 0}
    often = {"train__num_workers": 1, "train__n_steps": 60, "train__log_every": 20, "train__save_every": 60}
    video.main(config(video.Config, "video", **where, **shape, **often, train__val_every=60))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    shares = [line["wait_share"] for line in lines if "wait_share" in line]
    assert len(shares) == 3
    assert max(shares[1:]) <= 0.05, shares


@pytest.mark.timing
def test_the_arm_keeps_time(tmp_path: Path) -> None:
    """Fifty times a second, beside its own simulator; a policy 0.3 s late never stops it."""
    found = arm.main(["--seconds", "6", "--repeats", "300", "--json", str(tmp_path / "bench.json")])
    assert json.loads((tmp_path / "bench.json").read_text()) == found
    assert found["rate"] == pytest.approx(50.0, rel=0.005)
    assert found["bus_median"] <= 1.5e-3
    assert found["held"] == 0
    assert found["latency_median"] >= 0.3
    assert found["n_chunks"] > 9


@pytest.mark.parametrize("name", ["arm", "cache", "heads", "rollout", "svd"])
def test_figures_that_cannot_be_written_are_a_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Before anything is measured."""
    (tmp_path / "file").touch()
    for path, words in (
        (tmp_path / "file/bench.json", f"error: cannot write to the folder {tmp_path}/file: "),
        (tmp_path, f"error: --json is {tmp_path}, a folder; allowed: a file's name\n"),
    ):
        monkeypatch.setattr(sys, "argv", ["bench", "--json", str(path)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(Path(cache.__file__).with_name(f"{name}.py")), run_name="__main__")
        assert caught.value.code == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_few_repeats_are_refused(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        heads.main(["--repeats", "4"])
    assert caught.value.code == 2
    assert "--repeats is 4; allowed: at least 5" in capsys.readouterr().err


@pytest.mark.timing
def test_rollouts_are_cheap(written_dataset: Path, tmp_path: Path) -> None:
    """In miniature: both sides run the same episodes, and not drawing every step is most of what there is to save."""
    light.main(config(light.Config, "light", run=tmp_path, data__root=written_dataset, train__n_steps=1))
    small = ["--policy", str(tmp_path), "--size", "128", "--workers", "1", "--episodes", "1", "--repeats", "2"]
    (row,) = rollout.main([*small, "--chunks", "1", "--json", str(tmp_path / "bench.json")])
    assert json.loads((tmp_path / "bench.json").read_text()) == {"rows": [row]}
    assert (row["name"], row["chunks"], row["n_episodes"]) == ("rollout_ours", 1, 1)
    assert 6 * 5 <= row["control_steps"] <= 6 * 12  # six waypoints, of 5 to 12 control steps each
    assert row["ratio"] >= 1.5, row


def test_different_episodes_are_no_comparison() -> None:
    times = {"naive": [2.0], "ours": [1.0]}
    with pytest.raises(RuntimeError, match="the sides ran different episodes"):
        rollout.row("ours", times, {s: {"control_steps": n, "chunks": 4} for s, n in (("naive", 80), ("ours", 60))}, 1)


def test_what_cannot_be_measured_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for arguments, words in (
        (["--chunks", "0"], "--chunks is 0; allowed: at least 1"),
        (["--size", "100"], "image_size is (100, 100); allowed: multiples of 16"),
        (["--policy", str(tmp_path)], f"no checkpoint in {tmp_path}"),
    ):
        with pytest.raises(SystemExit) as caught:
            rollout.main(arguments)
        assert caught.value.code == 2
        assert words in capsys.readouterr().err


def test_the_published_unet_costs_what_is_known(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """At 576 x 320 and 7 frames, against counts made independently; a pass of it is never computed here."""
    found = svd.main(["--sizes", "576x320", "--json", str(tmp_path / "figures/svd.json")])
    assert json.loads((tmp_path / "figures/svd.json").read_text()) == found
    assert found["parameters_m"] == pytest.approx(1524.6, rel=1e-4)
    assert found["forward_tflop"] == pytest.approx(6.084, rel=1e-3)
    assert found["forward_backward_tflop"] == pytest.approx(18.22, rel=1e-3)
    assert found["encode_frame_tflop"] == pytest.approx(0.778, abs=5e-4)
    assert found["embed_tflop"] == pytest.approx(0.335, abs=5e-4)
    assert found["truncated_shares"] == pytest.approx([0.380, 0.575, 0.782], abs=1e-3)
    assert found["truncated_share"] == found["truncated_shares"][2] <= 0.79
    assert found["one_token_saving"] == pytest.approx(0.043, abs=5e-4)
    assert found["cached_sample_saving"] >= 1.3
    assert found["policy_step_tflop"] < 0.8 * (6.084 + 0.778 + 0.335)  # a whole pass, one encoding, one embedding
    assert found["blocks"] == {
        "conv_in": [320, 40, 72],
        "down_blocks.0": [320, 20, 36],
        "down_blocks.1": [640, 10, 18],
        "down_blocks.2": [1280, 5, 9],
        "down_blocks.3": [1280, 5, 9],
        "mid_block": [1280, 5, 9],
        "up_blocks.0": [1280, 10, 18],
        "up_blocks.1": [1280, 20, 36],
        "up_blocks.2": [640, 40, 72],
        "up_blocks.3": [320, 40, 72],
    }
    with pytest.raises(SystemExit):
        svd.main(["--sizes", "100x320"])
    assert "--sizes 100x320: allowed: width x height in multiples of 64" in capsys.readouterr().err


def test_a_device_is_measured(pipeline_folder: Path, tmp_path: Path) -> None:
    """Toy networks on the CPU: every figure is there, and consistent."""
    arguments = ["--device", "cpu", "--pretrained", str(pipeline_folder), "--sizes", "64x64"]
    found = svd.main([*arguments, "--batch", "2", "--repeats", "3", "--json", str(tmp_path / "speed.json")])
    assert json.loads((tmp_path / "speed.json").read_text()) == found
    times = ["policy_step_ms", "whole_pass_ms", "read_ms", "head_ms", "train_ms_per_sample", "uncached_ms_per_sample"]
    assert all(found[name] > 0 for name in (*times, "checkpointed_ms_per_sample"))
    assert found["schedule_hours"] == pytest.approx(7000 * 8 * found["train_ms_per_sample"] / 1000 / 3600)
    assert 0 <= found["wait_share"] < 1
    assert found["head_share"] == found["head_ms"] / found["policy_step_ms"]
    assert found["cached_speedup"] == found["uncached_ms_per_sample"] / found["train_ms_per_sample"]
    assert found["train_tflop_per_sample"] > found["policy_step_tflop"] > 0
    assert found["read_share"] == found["read_ms"] / found["plain_pass_ms"]
    assert "out_of_memory" not in found


def test_what_does_not_fit_takes_nothing_along(pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose memory is too small for a batch still acts, and trains on what fits; figures come part by part."""

    def full(*_args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(
        svd_speed, "clips_of", lambda *args, of=svd_speed.clips_of: of(*args) if args[1] > 1 else full()
    )
    kept: list[dict] = []
    found = svd_speed.measure(
        torch.device("cpu"), pipeline_folder, (64, 64), 1, 1, False, keep=lambda found: kept.append(dict(found))
    )
    assert [sorted(each.keys() & {"checkpointed_ms_per_sample", "policy_step_ms"}) for each in kept] == [
        [],
        ["checkpointed_ms_per_sample"],
        ["checkpointed_ms_per_sample", "policy_step_ms"],
    ]
    assert found["out_of_memory"] == ["training"]
    assert "train_ms_per_sample" not in found


def test_goals_stand_beside_what_was_measured() -> None:
    lines = svd_speed.table({"policy_step_ms": 50.0, "cached_speedup": 1.2, "torch": "2"}, goals=True).splitlines()
    assert [line.split()[0] for line in lines] == ["policy_step_ms", "cached_speedup", "torch"]
    assert lines[0].endswith("goal: at most 60: met")
    assert lines[1].endswith("goal: at least 1.3: missed")
    assert "goal" not in lines[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_that_is_said(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        svd.main(["--device", "cuda"])
    assert caught.value.code == 2
    assert "--device cuda: there is no GPU here; allowed: meta, cpu" in capsys.readouterr().err
