"""Checkpoints are whole or absent, and what is loaded is what was saved, bit for bit."""

import json
import os
import shutil
import signal
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from damage import flip, tamper
from faults.fault import run
from torch import nn

from videopolicy.data.files import make_folder, sha256
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint, restoring, saving
from videopolicy.training.loop import _Signals

FILES = ["model.safetensors", "optimizer.safetensors", "state.json", "config.json"]


def network(width: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Linear(width, 1))


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW over two groups, as in training."""
    first, last = ({"params": list(model[i].parameters()), "lr": lr, "name": str(i)} for i, lr in ((0, 0.1), (2, 0.01)))
    return torch.optim.AdamW([first, last], betas=(0.9, 0.99), weight_decay=0.01, fused=True)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, n_steps: int, seed: int) -> list[float]:
    losses = []
    for i in range(n_steps):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed + i))
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def save(run: Path, *steps: int) -> list[Path]:
    model = network()
    optimizer = optimizer_of(model)
    train(model, optimizer, 1, 0)
    return [saving.save(run, s, model.state_dict(), optimizer.state_dict(), {"fps": 4}, {"n": s}) for s in steps]


DAMAGE = {
    "one flipped bit": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}
damage = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())


def test_continuing_from_disk_equals_continuing(tmp_path: Path) -> None:
    """Weights, buffers and moments come back bit for bit: so do all later losses."""
    model = network()
    optimizer = optimizer_of(model)
    train(model, optimizer, 3, 0)
    optimizer.param_groups[1]["lr"] = 0.005
    path = saving.save(tmp_path, 3, model.state_dict(), optimizer.state_dict(), {"fps": 4}, {"name": "x"})
    expected = train(model, optimizer, 4, 10)

    torch.manual_seed(7)
    again = network().apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)
    other = optimizer_of(again)
    other.param_groups[1]["lr"] = 0.005  # rates are the configuration's
    restoring.load_model(path, again)
    other.load_state_dict(restoring.read_optimizer(path, other.param_groups))
    assert [g["lr"] for g in other.param_groups] == [0.1, 0.005]
    assert train(again, other, 4, 10) == expected
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert checkpoint.read_config(path) == {"name": "x"}
    state = checkpoint.read_state(path)
    assert (state["step"], state["fps"]) == (3, 4)


def test_tied_tensors_are_saved(tmp_path: Path) -> None:
    """Views and shared weights, which safetensors refuses, are copied."""
    model = network()
    tensors = {"a": model[0].weight, "b": model[0].weight, "c": model[0].weight.T}
    path = saving.save(tmp_path, 1, tensors, optimizer_of(model).state_dict(), {}, {})
    assert checkpoint.damage(path) is None


@damage
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_damaged_checkpoint_is_skipped(tmp_path: Path, name: str, damage: object) -> None:
    """The one before it is taken, with a warning."""
    before, newest = save(tmp_path, 100, 200)
    assert checkpoint.latest(tmp_path) == newest
    if name == "manifest.json" and damage is flip:
        flip(newest / name, 0.5)
    else:
        damage(newest / name)
    with pytest.warns(UserWarning, match="step_000200: "):
        assert checkpoint.latest(tmp_path) == before
    with pytest.raises(BadInput, match="step_000200"):
        checkpoint.find(newest)


def test_the_warning_names_the_file(tmp_path: Path) -> None:
    _, newest = save(tmp_path, 100, 200)
    flip(newest / "optimizer.safetensors")
    with pytest.warns(UserWarning, match=r"optimizer\.safetensors differs"):
        checkpoint.find(tmp_path)


@pytest.mark.filterwarnings("ignore:skipping")
def test_when_all_are_damaged_all_are_listed(tmp_path: Path) -> None:
    """Training never starts over in silence."""
    one, two = save(tmp_path, 100, 200)
    flip(one / "model.safetensors")
    (two / "manifest.json").unlink()
    with pytest.raises(BadInput, match=r"step_000200: manifest\.json.*step_000100: model\.safetensors differs"):
        checkpoint.latest(tmp_path)


def test_unfinished_checkpoints_do_not_exist(tmp_path: Path) -> None:
    """A crash leaves a .tmp folder, which is neither found, nor counted, nor in the way."""
    (path,) = save(tmp_path, 100)
    unfinished = tmp_path / "step_000200.tmp"
    unfinished.mkdir()
    (unfinished / "model.safetensors").write_bytes(b"half")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoint.latest(tmp_path) == path
    (path,) = save(tmp_path, 200)
    assert checkpoint.latest(tmp_path) == path
    assert not unfinished.exists()


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 100, 200, 999_900, 1_000_000)
    kept = {p.name for p in tmp_path.glob("step_*")}
    assert kept == {"step_999900", "step_1000000"}
    assert len(kept) == checkpoint.N_KEPT
    assert (tmp_path / "latest").read_text() == "step_1000000\n"
    assert checkpoint.read_state(checkpoint.latest(tmp_path))["step"] == 1_000_000


def test_damaged_ones_are_not_counted_as_kept(tmp_path: Path) -> None:
    """Neither newer ones, before which training goes on, nor older ones: two whole ones are there."""
    save(tmp_path, 1, 2)
    for name in ("step_000004", "step_000006"):
        shutil.copytree(tmp_path / "step_000002", tmp_path / name)
        flip(tmp_path / name / "model.safetensors")
    (three,) = save(tmp_path, 3)
    with pytest.warns(UserWarning, match="step_000006"):
        assert checkpoint.latest(tmp_path) == three
    flip(three / "model.safetensors")
    save(tmp_path, 5)
    whole = [p.name for p in checkpoint.steps(tmp_path) if checkpoint.damage(p) is None]
    assert whole == ["step_000002", "step_000005"]


def test_files_that_no_manifest_lists_are_not_loaded(tmp_path: Path) -> None:
    before, newest = save(tmp_path, 100, 200)
    shutil.copy(newest / "model.safetensors", newest / checkpoint.AVERAGED)
    assert checkpoint.damage(newest) == "manifest.json does not list averaged.safetensors"
    with pytest.warns(UserWarning, match="step_000200"):
        assert checkpoint.latest(tmp_path) == before


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    (path,) = save(tmp_path, 100)
    flip(path / "model.safetensors")
    save(tmp_path, 100)
    assert checkpoint.latest(tmp_path) == path


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BadInput, match=f"no checkpoint in {place}"):
            checkpoint.find(place)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (network(5), r"0\.bias is \(3,\) against \(5,\)"),
        (nn.Sequential(*network(), nn.Linear(1, 1)), r"3\.bias is nothing against \(1,\)"),
        (network()[:2], r"2\.bias is \(1,\) against nothing"),
    ],
)
def test_another_architecture_is_refused(tmp_path: Path, model: nn.Module, words: str) -> None:
    """The first key that does not fit is named, and nothing has been loaded."""
    (path,) = save(tmp_path, 100)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(BadInput, match=f"another architecture: {words}"):
        restoring.load_model(path, model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_only_the_accepted_part_is_loaded(tmp_path: Path) -> None:
    (path,) = save(tmp_path, 100)
    model = nn.Sequential(network()[0], nn.BatchNorm1d(3), nn.Linear(3, 9))
    before = model[2].weight.clone()
    report = restoring.load_model(path, model, accept=lambda key: key.startswith("0."))
    assert torch.equal(model[2].weight, before)
    assert report.startswith(f"loaded 0.bias (1), 0.weight (1) from {path}; not in it or not asked for: 1.bias (1)")
    assert report.endswith("2.bias (1), 2.weight (1)")


@pytest.mark.parametrize("change", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, change: float) -> None:
    """They are not saved; those that somebody else saved are not loaded."""
    model = network()
    (path,) = save(tmp_path, 100)
    model[2].weight.data[0, 0] = change
    with pytest.raises(
        FloatingPointError, match=r"2\.weight is not finite; nothing was saved; step_000100 is as it was"
    ):
        saving.save(tmp_path, 101, model.state_dict(), optimizer_of(model).state_dict(), {}, {})
    assert checkpoint.steps(tmp_path) == [path]
    tamper(path, checkpoint.MODEL, lambda tensors: tensors["2.weight"].fill_(change))
    with pytest.raises(BadInput, match=r"holds values of 2\.weight that are not finite"):
        restoring.load_model(path, network())


def test_what_saves_have_left_is_swept(tmp_path: Path) -> None:
    (path,) = save(tmp_path, 100)
    (tmp_path / "step_000200.tmp").mkdir()
    (tmp_path / "step_000200.tmp/model.safetensors").write_bytes(b"half")
    (tmp_path / "latest.123.tmp").write_text("step_000200")
    checkpoint.sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {path.name, "latest"}


def test_a_manifest_names_files_of_its_folder(tmp_path: Path) -> None:
    """Not others, and all that a checkpoint needs."""
    _, newest = save(tmp_path, 100, 200)
    manifest = json.loads((newest / "manifest.json").read_text())
    assert set(manifest) == {"step", "config", "versions", "files"}
    outside = {**manifest["files"], "../latest": {"bytes": 12, "sha256": sha256(tmp_path / "latest")}}
    without = {k: v for k, v in manifest["files"].items() if k != "state.json"}
    for files, words in (
        (outside, "../latest is missing"),
        (without, "does not list state.json"),
        ({}, "does not list"),
    ):
        (newest / "manifest.json").write_text(json.dumps(manifest | {"files": files}))
        assert words in checkpoint.damage(newest)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_at_once(tmp_path: Path, number: int) -> None:
    """The first one is noted."""

    def work() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
        with _Signals() as signals:
            os.kill(os.getpid(), number)
            print(signals.caught, flush=True)
            os.kill(os.getpid(), number)
            time.sleep(60)

    status = run(work, tmp_path / "log", 30)
    said = (tmp_path / "log").read_text()
    assert said.startswith("True")
    assert status == -signal.SIGTERM if number == signal.SIGTERM else "KeyboardInterrupt" in said


def test_one_folder_is_made_by_many_at_once(tmp_path: Path) -> None:
    """Two trainings of one suite begin in threads of one process."""
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(make_folder, [tmp_path / "runs" / "tune"] * 2000)) == [None] * 2000
    assert not any((tmp_path / "runs" / "tune").iterdir())


def test_an_unwritable_run_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write to the folder"):
        make_folder(tmp_path / "file" / "run")
    if os.geteuid() != 0:  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(BadInput, match="cannot write"):
            make_folder(tmp_path / "run")
