"""Equivariance, measured: exact where a network is, none where one cannot be, and the command on trained policies."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import agentview, write_dataset
from flows import config
from small_heads import HEIGHTS
from torch import nn

from eval import probe
from eval.equivariance import EquivarianceConfig, followed, image_shifts, pixels, scene_pairs
from eval.positions import grid
from eval.stills import Still
from train_stages import light
from videopolicy.backbones.backbone import FeatureMap, to_pixels
from videopolicy.camera import Camera
from videopolicy.config import load
from videopolicy.data.recording import Episode
from videopolicy.errors import BadInput
from videopolicy.heads.coordinates import CoordinateShape
from videopolicy.heads.heatmap import ParaConfig
from videopolicy.heads.para import ParaHead
from videopolicy.heads.regression import RegressionConfig, RegressionHead
from videopolicy.heads.tracks import TracksConfig, TracksHead
from videopolicy.policy import FeaturePolicy

SIDE, MARGIN, STRIDE = 128, 24, 8
FILLS = ("border", "wrap", "wide")


class Circular(nn.Module):
    """A convolutional backbone of stride 8 that wraps around: shifts by its stride are exact, everywhere."""

    n_feature_frames, feature_channels = 1, 16
    grid, image_size = (SIDE // STRIDE, SIDE // STRIDE), (SIDE, SIDE)

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, STRIDE, STRIDE)
        self.around = nn.Conv2d(16, 16, 3, padding=1, padding_mode="circular")

    def forward(
        self, images: torch.Tensor, start_pixel: torch.Tensor, start_height: torch.Tensor | None = None
    ) -> FeatureMap:
        return FeatureMap(self.around(torch.tanh(self.patches(to_pixels(images))))[:, None])


def still(seed: int) -> Still:
    """A patch of noise near the middle of an even, dark table."""
    wide, rng = np.full((SIDE + 2 * MARGIN, SIDE + 2 * MARGIN, 3), 30, np.uint8), np.random.default_rng(seed)
    at = MARGIN + SIDE // 2 - 8
    wide[at : at + 16, at : at + 16] = rng.integers(0, 256, (16, 16, 3))
    K = agentview(SIDE).K.copy()
    K[:2, 2] += MARGIN
    camera = Camera(K, agentview(SIDE).T_world_cam, (SIDE + 2 * MARGIN, SIDE + 2 * MARGIN))
    return Still(wide, camera, MARGIN, np.array([-0.1, 0.0, 0.1]), 1.0, np.zeros((3, 3)), 1)


def pixel_aligned() -> FeaturePolicy:
    """Sharp heatmaps that peak on the patch of noise."""
    torch.manual_seed(0)
    head = ParaHead(ParaConfig(width=16, n_layers=0), 16, 1, 3, Circular.grid, (SIDE, SIDE), HEIGHTS, 0.25).eval()
    backbone = Circular()
    with torch.no_grad():
        background = head.volume(head.trunk(head.embed(backbone(torch.full((1, SIDE, SIDE, 3), 30).byte(), None))))
        head.volume.weight *= 100
        head.volume.bias.copy_(-100 * background[0, :, 0, 0])
    return FeaturePolicy(backbone.eval(), head, (SIDE, SIDE))


@pytest.mark.parametrize("fill", FILLS)
def test_a_convolution_that_wraps_follows_exactly(fill: str) -> None:
    """By multiples of its stride, whatever the fill, where the edges are far and even; by others it does not."""
    rows = image_shifts(pixel_aligned(), [still(i) for i in range(3)], (4, 8, 16, 24), (fill,))
    for row in rows:
        assert (row["n"], row["n_pictures"]) == (3 * 4 * 3, 3)
        if row["shift_px"] % STRIDE == 0:
            assert row["share"] == pytest.approx(1.0, abs=1e-4)
            assert row["residual_px"] < 1e-3
        else:
            assert row["residual_px"] > 0.1


def test_what_is_pooled_does_not_follow() -> None:
    """Averages over all cells are the same wherever the patch is."""
    torch.manual_seed(0)
    head = RegressionHead(
        RegressionConfig(16),
        CoordinateShape(16, 1, 3, (224, 224), torch.tensor([-0.2, 0, 0.1]), torch.full((3,), 0.1), 0.25),
    )
    policy = FeaturePolicy(Circular().eval(), head.eval(), (SIDE, SIDE))
    for row in image_shifts(policy, [still(0)], (8, 16), FILLS):
        assert row["share"] == pytest.approx(0.0, abs=1e-3)
        assert row["residual_px"] == pytest.approx(row["shift_px"], rel=1e-3)


def test_what_counts_is_what_is_executed() -> None:
    """Tracks in the image are an aid of their head: the arm goes where its coordinates say."""
    torch.manual_seed(0)
    shape = CoordinateShape(16, 1, 3, (SIDE, SIDE), torch.tensor([-0.2, 0, 0.1]), torch.full((3,), 0.1), 0.25)
    policy = FeaturePolicy(Circular().eval(), TracksHead(TracksConfig(), shape).eval(), (SIDE, SIDE))
    seen = still(0).seen()
    chunk = policy.act(seen)
    assert chunk.pixel is not None
    found = pixels(policy, [seen], [seen.camera])[0]
    np.testing.assert_allclose(found, seen.camera.project(chunk.position))
    assert np.linalg.norm(found - chunk.pixel, axis=-1).min() > 1


def test_lengths_are_in_the_policys_pixels() -> None:
    """Pictures of another size than the policy's: 16 of their pixels are 8 of a picture half as large."""
    policy = pixel_aligned()
    large = still(0)
    twice = Still(
        large.wide.repeat(2, 0).repeat(2, 1),
        large.wide_camera.resized((2 * SIDE + 4 * MARGIN,) * 2),
        2 * MARGIN,
        large.ee_position,
        1.0,
        large.plan,
        1,
    )
    (row,) = image_shifts(policy, [twice], (16,), ("wide",))
    assert row["shift_px"] == 8.0
    assert row["residual_px"] < 1e-3


def test_shares_and_residuals_of_known_displacements() -> None:
    true = np.array([[10.0, 0.0], [0.0, -20.0], [5.0, 5.0]])
    predicted = np.array([[5.0, 0.0], [3.0, -20.0], [np.nan, 0.0]])
    found = followed(predicted, true, np.array([True, True, False]), "px")
    assert (found["n"], found["share"], found["residual_px"]) == (2, 0.75, 4.0)
    assert followed(predicted, true, np.zeros(3, bool), "px")["share"] is None


def test_pictures_move_with_their_camera() -> None:
    """What the camera sees at a pixel it sees `shift` further on; only the fill at the edges differs."""
    rng = np.random.default_rng(0)
    one = still(0)
    one.wide[:] = rng.integers(0, 256, one.wide.shape)
    plain, shift = one.seen(), (5, -9)
    np.testing.assert_array_equal(plain.image, one.wide[MARGIN:-MARGIN, MARGIN:-MARGIN])
    pictures = {fill: one.seen(shift, fill) for fill in FILLS}
    for seen in pictures.values():
        np.testing.assert_array_equal(seen.image[: SIDE - 9, 5:], plain.image[9:, : SIDE - 5])
        np.testing.assert_allclose(seen.camera.project(one.ee_position), plain.camera.project(one.ee_position) + shift)
    np.testing.assert_array_equal(pictures["border"].image[0, :5], plain.image[9, [0] * 5])
    np.testing.assert_array_equal(pictures["wrap"].image[0, :5], plain.image[9, -5:])
    np.testing.assert_array_equal(pictures["wide"].image[0, :5], one.wide[MARGIN + 9, MARGIN - 5 : MARGIN])


def test_moves_stay_on_their_side() -> None:
    trained, cfg = grid("left"), EquivarianceConfig(n_scenes=5)
    pairs = scene_pairs(trained, cfg, 0)
    assert list(pairs) == [(side, d) for side in ("trained", "untrained") for d in cfg.distances]
    for (side, distance), moves in pairs.items():
        assert len(moves) == 5
        for pair in moves:
            assert np.linalg.norm(pair[1] - pair[0]) == pytest.approx(distance)
            gaps = [np.linalg.norm(trained - xy, axis=-1).min() for xy in pair]
            assert max(gaps) <= 0.04 if side == "trained" else min(gaps) > 0.05
    assert {side for side, _ in scene_pairs(grid("all"), cfg, 0)} == {"trained"}
    with pytest.raises(BadInput, match="no position on the table is within"):
        scene_pairs(np.array([[3.0, 3.0]]), cfg, 0)


def placed(number: int, episode: Episode) -> Episode:
    return Episode(episode.frames, episode.state, episode.action, {"bowl_xy": [-0.2 + 0.02 * number, -0.2]})


def test_trained_policies_are_probed(tmp_path: Path) -> None:
    """Heads with and without pixels, in simulated scenes; the summary and its table say for how many."""
    root = write_dataset(tmp_path / "data", change=placed)
    for kind in ("para", "regression"):
        light.main(
            config(light.Config, "light", run=tmp_path / kind, data__root=root, head__kind=kind, train__n_steps=1)
        )
    runs = {kind: str(tmp_path / kind) for kind in ("para", "regression")}
    arguments = ["--output", str(tmp_path / "out"), "--equivariance.shifts", "[56]"]
    arguments += ["--equivariance.distances", "[0.02]", "--equivariance.n_scenes", "1", "--n_threads", "1"]
    summary = probe.main(load(probe.Config, [*arguments, "--policies", json.dumps(runs)]))
    assert json.loads((tmp_path / "out/equivariance/summary.json").read_text()) == summary
    found = [(r["policy"], r["fill"], r["shift_px"], r["n_pictures"]) for r in summary["image_shifts"]]
    assert found == [(policy, fill, 8.0, 1) for policy in runs for fill in FILLS]
    sides = [(r["policy"], r["side"], r["distance_mm"], r["n"]) for r in summary["scene_shifts"]]
    assert sides == [(policy, side, 20.0, 1) for policy in runs for side in ("trained", "untrained")]
    assert (tmp_path / "out/equivariance/table.txt").read_text().count("\n") == 2 + len(found) + len(sides)
    for more, words in (
        (["--kind", "equivariance", "--policies", "{}"], "policies is empty; name at least one"),
        (["--equivariance.shifts", "[0, 8]"], r"equivariance.shifts is \[0, 8\]; allowed: 1 to 223 pixels of 448"),
        (["--equivariance.shifts", "[1]"], r"equivariance.shifts \[1\] are all below half a pixel of .*'s 64"),
        (["--equivariance.distances", "[0.5]"], r"equivariance.distances is \[0.5\]; allowed: above 0 to 0.3 m"),
        (["--equivariance.fills", "[]"], "equivariance.fills is empty; allowed: one or more"),
        (["--equivariance.n_scenes", "0"], "equivariance.n_scenes is 0; allowed: at least 1"),
    ):
        with pytest.raises(BadInput, match=words):
            probe.main(load(probe.Config, [*arguments, "--policies", json.dumps(runs), *more]))


def test_policies_that_cannot_be_compared_are_refused(written_dataset: Path, tmp_path: Path) -> None:
    light.main(config(light.Config, "light", run=tmp_path / "a", data__root=written_dataset, train__n_steps=1))
    with pytest.raises(BadInput, match=r"does not say where the bowl stood \(bowl_xy\), which"):
        probe.main(load(probe.Config, ["--kind", "equivariance", "--policies", json.dumps({"a": str(tmp_path / "a")})]))
    other = write_dataset(tmp_path / "data", change=placed)
    light.main(config(light.Config, "light", run=tmp_path / "b", data__root=other, train__n_steps=1))
    runs = json.dumps({name: str(tmp_path / name) for name in "ab"})
    with pytest.raises(BadInput, match="policies were trained on different sets"):
        probe.main(load(probe.Config, ["--policies", runs]))
    with pytest.raises(BadInput, match="kind is 'features', but policies are named; allowed: kind equivariance"):
        probe.main(load(probe.Config, ["--kind", "features", "--policies", runs]))
