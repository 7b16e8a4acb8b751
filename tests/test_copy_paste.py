"""Copies of the grasped object: found without labels, pasted where nothing hides them, and nothing else changed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import agentview, background, discs, without_sums, write_dataset
from flows import config

from train_stages import light
from videopolicy.data.copy_paste import CopyPaste, copies_of, object_at
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.files import read_jsonl
from videopolicy.data.lerobot import Dataset
from videopolicy.data.recording import Episode
from videopolicy.errors import BadInput

SIDE = 96
PLATE = np.array([0.0, 13.0])  # from the object, which it touches [pixels]
SPOTS = np.array([[-0.3, -0.15, 0.0], [-0.05, -0.18, 0.0], [-0.2, 0.0, 0.0], [0.0, 0.1, 0.0], [-0.25, 0.18, 0.0]])


def task(number: int, episode: Episode) -> Episode:
    """An object is taken from its spot and put onto the grey plate before it."""
    spot, state, action = SPOTS[number], episode.state.copy(), episode.action.copy()
    state[:, :3] = spot + np.outer([0.3, 0.1, 0.0, 0.05, 0.1, 0.2], [0, 0, 1])
    action[:, :3] = state[[*range(1, 6), -1], :3]
    action[:, 3] = [1, 1, 0, 0, 1, 1]
    pixel = agentview(SIDE).project(spot)
    table = plate(background(SIDE), pixel + PLATE)
    frames = [discs(table, (pixel if t < 3 else pixel + PLATE)[None], radius(spot)) for t in range(6)]
    return Episode(np.stack(frames), state, action, episode.extra)


def radius(spot: np.ndarray) -> float:
    """As large as it looks from there [pixels]."""
    return float(7.0 / np.linalg.norm(spot - agentview(SIDE).position))


def plate(picture: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    v, u = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    return np.where((np.hypot(u - pixel[0], v - pixel[1]) < 7)[..., None], np.uint8(230), picture)


def write(root: Path) -> Path:
    return write_dataset(root, (6,) * 5, SIDE, task)


def clips_of(root: Path, size: tuple[int, int] = (SIDE, SIDE)) -> ClipDataset:
    return ClipDataset(Dataset(root), list(range(len(Dataset(root)))), 1, 2, size, 1.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipDataset, CopyPaste]:
    clips = clips_of(write(tmp_path_factory.mktemp("data") / "task"))
    return clips, copies_of(clips)


def test_objects_are_what_the_hand_takes_away(made: tuple[ClipDataset, CopyPaste]) -> None:
    """The whole disc, and nothing of the plate, which it touches and which stays."""
    masks = made[1].masks.numpy()
    v, u = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    assert len(masks) == len(SPOTS)
    for mask, spot in zip(masks, SPOTS, strict=True):
        pixel = agentview(SIDE).project(spot)
        disc = np.hypot(u - pixel[0], v - pixel[1]) < radius(spot)
        assert mask[disc].mean() > 0.95
        assert mask.sum() < 2 * disc.sum()
        assert not mask[np.hypot(*(np.stack([u, v]).T - pixel - PLATE).T).T < 6].any()


def test_pictures_of_another_size(tmp_path: Path) -> None:
    """The mask is where the policy's pictures show the object."""
    copies = copies_of(clips_of(write(tmp_path / "task"), (2 * SIDE, 2 * SIDE)))
    centres = np.stack([np.argwhere(mask).mean(0)[::-1] + 0.5 for mask in copies.masks.numpy()])
    np.testing.assert_allclose(centres, 2 * agentview(SIDE).project(SPOTS), atol=3)


def test_half_an_object_is_none(tmp_path: Path) -> None:
    """One that something hides in the first picture is left out, as its size shows; the others stay."""

    def hidden(number: int, episode: Episode) -> Episode:
        episode = task(number, episode)
        if number == 2:
            u = int(agentview(SIDE).project(SPOTS[2])[0])
            episode.frames[:, :, u:] = background(SIDE)[:, u:]
        return episode

    whole = copies_of(clips_of(write(tmp_path / "whole"))).masks
    copies = copies_of(clips_of(write_dataset(tmp_path / "hidden", (6,) * 5, SIDE, hidden)))
    assert torch.equal(copies.masks, whole[[0, 1, 3, 4]])


def test_what_is_an_object_at_a_pixel() -> None:
    """Hollow ones are filled, thin bridges cut; none is far from the pixel, or cut by the picture's edge."""
    v, u = np.mgrid[0:112, 0:112] + 0.5
    ring = (np.hypot(u - 50, v - 40) < 9) & (np.hypot(u - 50, v - 40) > 5)
    other = np.hypot(u - 80, v - 40) < 9
    bridge = (np.abs(v - 40) < 1) & (u > 55) & (u < 75)
    mask = object_at(ring | other | bridge, np.array([50.0, 34.0]))
    assert mask is not None
    assert mask[40, 50]
    assert not mask[:, 72:].any()
    assert mask.sum() == pytest.approx(np.pi * 9.5**2, rel=0.15)
    assert object_at(ring, np.array([50.0, 60.0])) is None
    assert object_at(bridge, np.array([60.0, 40.0])) is None
    assert object_at(np.hypot(u, v - 40) < 9, np.array([3.0, 40.0])) is None
    assert object_at(np.zeros((112, 112), bool), np.array([50.0, 34.0])) is None


def test_copies_stand_behind_everything(made: tuple[ClipDataset, CopyPaste]) -> None:
    clips, copies = made
    frames = torch.stack([clips[0]["frames"]] * 4)
    frames[3, :, :20, :20] = 255  # something in front, which hides little
    out = copies.paste(frames, torch.tensor([-1, 0, 3, 3]))
    assert torch.equal(out[0], frames[0])
    assert torch.equal(out[1], frames[1])  # where its own object stands nothing else can
    mask = copies.masks[3]
    assert torch.equal(out[2, 0][~mask], frames[2, 0][~mask])
    assert (out[2, 0][mask] == copies.pictures[3][mask]).all(-1).float().mean() > 0.95
    assert torch.equal(out[3, :, :20, :20], frames[3, :, :20, :20])
    hidden = frames.clone()
    hidden[2, 0][mask & (torch.arange(SIDE) < mask.nonzero()[:, 1].float().mean())] = 255  # half of it
    assert torch.equal(copies.paste(hidden, torch.tensor([-1, -1, 3, -1])), hidden)


def test_as_many_as_asked_for(made: tuple[ClipDataset, CopyPaste]) -> None:
    draws = made[1].draw(4000, 0.3, torch.Generator().manual_seed(0))
    assert (draws >= 0).float().mean() == pytest.approx(0.3, abs=0.03)
    assert set(draws.tolist()) == {-1, *range(len(SPOTS))}
    assert (made[1].draw(100, 0.0, torch.Generator()) == -1).all()


def test_training_with_copies_resumes(tmp_path: Path) -> None:
    """The same losses as without an interruption, other ones than without copies, and no copies in the checkpoint."""
    root = write(tmp_path / "data")
    for run, changes in (
        ("whole", {}),
        ("parts", {"train__n_steps": 2}),
        ("parts", {}),
        ("plain", {"augment__copies": 0.0}),
    ):
        where = {"run": tmp_path / run, "data__root": root, "augment__copies": 1.0, "augment__kind": "camera"}
        light.main(config(light.Config, "light", **where | changes))
    losses = {
        run: [r["total"] for r in read_jsonl(tmp_path / run / "metrics.jsonl") if "total" in r]
        for run in ("whole", "parts", "plain")
    }
    assert losses["whole"] == losses["parts"] != losses["plain"]
    assert sorted(p.name for p in (tmp_path / "whole/step_000004").iterdir()) == sorted(
        p.name for p in (tmp_path / "plain/step_000004").iterdir()
    )


def test_what_has_no_copies_is_refused(tmp_path: Path) -> None:
    """No grasp, several cameras, or a share that is none."""

    def never_closes(number: int, episode: Episode) -> Episode:
        episode = task(number, episode)
        episode.action[:, 3] = 1.0
        return episode

    write_dataset(tmp_path / "open", (6,) * 5, SIDE, never_closes)
    with pytest.raises(
        BadInput, match=r"augment.copies found 0 whole objects where the gripper closes in the 5 chosen"
    ):
        copies_of(clips_of(tmp_path / "open"))
    root = without_sums(write(tmp_path / "views"))
    cameras, extras = root / "meta/para_cameras.json", root / "meta/para_episodes.jsonl"
    cameras.write_text(cameras.read_text().replace('"fixed"', '"moving"'))
    rows = [json.loads(line) for line in extras.read_text().splitlines()]
    for i, row in enumerate(rows):
        row["camera"] = agentview(SIDE).to_json()
        row["camera"]["K"][0][0] *= 1 + 0.1 * i
    extras.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        BadInput, match=r"augment.copies needs pictures of one camera, but .* has several; allowed for it: 0"
    ):
        copies_of(clips_of(root))
    with pytest.raises(BadInput, match=r"augment.copies is 1.5; allowed: 0 to 1"):
        config(light.Config, "light", augment__copies=1.5)
