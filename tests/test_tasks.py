"""LIBERO's pick-and-place tasks: grasps from geometry, episodes from fixed initial states, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from flows import config

from eval import collect, experts, rollout
from eval.expert import transfer
from eval.goal import Goal, language, read_goal
from eval.grasp import HAND, INNER, PALM, find_grasps
from eval.grid import GridConfig
from eval.record import kept
from eval.surface import box_surface
from eval.tasks import Task, task_spots, task_trials
from train_stages import light
from videopolicy.data.files import read_jsonl
from videopolicy.data.lerobot import Dataset
from videopolicy.data.recording import Writer
from videopolicy.errors import BadInput

SIZE = 112
BUTTER = "libero_object/pick_up_the_butter_and_place_it_in_the_basket"
NOTHING = np.zeros((0, 3))


@pytest.fixture(scope="module")
def butter(tmp_path_factory: pytest.TempPathFactory) -> collect.Config:
    """Two demonstrations of a task: one, and by the same command with more states another."""
    output = tmp_path_factory.mktemp("tasks") / "butter"
    cfg = collect.Config(output, suite="libero_object", task=6, n_states=1, image_size=SIZE, n_workers=1)
    assert collect.main(cfg)["new"] == 1
    cfg = replace(cfg, n_states=2)
    assert collect.main(cfg)["new"] == 1
    return cfg


# -- geometry ------------------------------------------------------------------------------------------------------


def box(low: tuple, high: tuple) -> np.ndarray:
    a, b = np.array(low), np.array(high)
    return box_surface((b - a) / 2, 0.003) + (a + b) / 2


def cup(radius: float = 0.05, height: float = 0.06, wall: float = 0.003) -> np.ndarray:
    """A square cup without a lid."""
    r, w = radius, wall
    sides = [box((s * r - w, -r, 0), (s * r + w, r, height)) for s in (-1, 1)]
    sides += [box((-r, s * r - w, 0), (r, s * r + w, height)) for s in (-1, 1)]
    return np.concatenate([*sides, box((-r, -r, 0), (r, r, w))])


def test_narrow_things_are_grasped_around_the_middle() -> None:
    for height in (0.02, 0.15):
        best = find_grasps(box((0.03, -0.12, 0), (0.11, -0.08, height)), NOTHING)[0]
        np.testing.assert_allclose(best.position[:2], [0.07, -0.10], atol=0.003)
        assert best.slide == pytest.approx(0, abs=0.002)
        assert best.position[2] + PALM >= height - 1e-9  # the palm stays above it


def test_wide_things_are_grasped_by_a_wall_or_not_at_all() -> None:
    assert find_grasps(box((-0.05, -0.05, 0), (0.05, 0.05, 0.1)), NOTHING) == []
    best, *others = find_grasps(cup(), NOTHING)
    assert abs(best.position[0]) < 0.006
    assert abs(best.position[1]) == pytest.approx(0.05, abs=0.006)
    assert {np.sign(g.position[1]) for g in [best, *others]} == {-1, 1}


def test_grasps_leave_room_for_what_stands_beside() -> None:
    thing = box((-0.04, -0.02, 0), (0.04, 0.02, 0.02))
    free = find_grasps(thing, NOTHING)[0]
    assert abs(free.position[0]) < 0.003
    pillar = box((0.015, 0.05, 0), (0.035, 0.09, 0.2))  # where a finger and the palm would come down
    best = find_grasps(thing, pillar)[0]
    assert best.position[0] + 0.012 < 0.015 or best.position[2] > 0.1
    assert find_grasps(thing, box((-0.2, INNER + 0.002, 0), (0.2, HAND, 0.2))) == []


def test_paths_go_over_what_stands_between() -> None:
    thing, wall = box((-0.02, -0.12, 0), (0.02, -0.08, 0.05)), box((-0.1, -0.01, 0), (0.1, 0.01, 0.15))
    grasp, release = np.array([0.0, -0.10, 0.03]), np.array([0.0, 0.15, 0.05])
    start = np.array([-0.12, 0.0, 0.20])
    position, gripper = transfer(start, grasp, thing, wall, release, 0.05)
    carried = position[gripper == 0]
    over = carried[np.abs(carried[:, 1]) < 0.04]
    assert len(over) > 3
    assert over[:, 2].min() - 0.03 > 0.15  # 3 cm of the thing hang below the grip site
    assert (np.linalg.norm(np.diff(position, axis=0), axis=-1) < 0.0101).all()
    np.testing.assert_allclose(position[-1, :2], release[:2])
    assert gripper[-1] == 1.0


# -- tasks ---------------------------------------------------------------------------------------------------------


def test_goals_are_one_pick_and_place() -> None:
    assert read_goal("(:goal\n (And (In a_1 b_1_contain_region))\n )\n)", "x") == Goal(
        "In", "a_1", "b_1_contain_region"
    )
    assert read_goal("(:goal (On a_1 b_1)))", "x") == Goal("On", "a_1", "b_1")
    for goal in ("(Open c_1)", "(On a b) (On c d)", "(And (Turnon s) (On a b))"):
        with pytest.raises(BadInput, match=r"the goal of x is \(.*; allowed: a single \(On A B\) or \(In A B\)"):
            read_goal(f"(:goal (And {goal})))", "x")
    assert language("libero_90/KITCHEN_SCENE10_put_the_bowl_on_it") == "put the bowl on it"
    assert language(BUTTER) == "pick up the butter and place it in the basket"


def test_evaluation_begins_where_no_demonstration_did() -> None:
    task = Task("suite/name", "words", 50)
    spots = task_spots(task, 40)
    tested = task_trials(task, [s.extra for s in spots], None, seed=0)
    assert sorted(t.init_state for t in tested) == list(range(40, 50))
    assert task_trials(task, [s.extra for s in spots], 3, seed=0)[0].init_state == 49
    assert len(task_trials(task, [{"task": "another", "init_state": 3}], None, seed=0)) == 50
    with pytest.raises(BadInput, match="n_episodes is 11; allowed: at most 10"):
        task_trials(task, [s.extra for s in spots], 11, seed=0)
    with pytest.raises(BadInput, match="n_states is 51; allowed: 1 to 50"):
        task_spots(task, 51)


def test_demonstrations_begin_in_fixed_states(butter: collect.Config) -> None:
    data = Dataset(butter.output)
    for i, extra in enumerate(data.extras()):
        assert (extra["task"], extra["init_state"], extra["placed"]) == (BUTTER, i, True)
        state, action = data.state(i), data.action(i)
        error = np.linalg.norm(state[1:, :3] - action[:-1, :3], axis=-1)
        assert np.median(error) < 0.008
        assert state[:, 2].min() > 0
        assert not np.allclose(state[0], data.state(1 - i)[0])  # the arm's start varies
    assert len(data) == 2
    assert data.rows[0]["tasks"] == ["pick up the butter and place it in the basket"]


def test_other_tasks_and_states_are_not_mixed_in(butter: collect.Config) -> None:
    data = Dataset(butter.output)
    words = "pick up the butter and place it in the basket"
    writer = Writer(butter.output, data.fps, "agentview", data.camera, words)
    assert kept(writer, task_spots(Task(BUTTER, "words", 50), 2)) == {0, 1}
    for spots in (task_spots(Task("another/task", "words", 50), 2), GridConfig("left", 2).spots(0)):
        with pytest.raises(BadInput, match=f"holds an episode at initial state 0 of {BUTTER}, which is not position 0"):
            kept(writer, spots)


def test_policies_and_oracle_are_rolled_out(butter: collect.Config, tmp_path: Path) -> None:
    """On initial states that are not in the training data, with LIBERO's own goal deciding."""
    light.main(config(light.Config, "light", run=tmp_path / "run", data__root=butter.output, train__n_steps=1))
    policies = {"para": str(tmp_path / "run")}
    cfg = rollout.Config(tmp_path / "rollout", policies, suite="libero_object", task=6, n_episodes=1, n_workers=1)
    records = {r["policy"]: r for r in rollout.main(cfg)}
    assert {(r["split"], r["init_state"], r["task"]) for r in records.values()} == {("held_out", 49, BUTTER)}
    assert records["oracle"]["outcome"] == "place"
    assert set(records["oracle"]["final"]) == {"object", "target"}
    assert len(read_jsonl(cfg.output / "episodes.jsonl")) == 2
    for wrong, line in (
        ({"task": 0}, "holds episode 0 of 'para' on held_out with other weights or another protocol"),
        ({"suite": None}, "task is 6, but suite is null"),
        ({"suite": None, "task": None}, "has no bowl positions to test between; allowed: suite and task of LIBERO"),
        ({"splits": ("seen",)}, r"splits is \('seen',\), but suite is 'libero_object'"),
    ):
        with pytest.raises(BadInput, match=line):
            rollout.main(replace(cfg, **wrong))


def test_the_table_of_the_expert(capsys: pytest.CaptureFixture) -> None:
    """The bowl on the ramekin, from where it would bounce off if it were dropped as LIBERO's state has it."""
    placed = experts.main(experts.Config(tasks=(5,), n_states=1, n_workers=1))
    assert list(placed.values()) == [[True]]
    assert (
        "1/1 (Wilson 95 % 20.7 to 100.0) libero_spatial/pick_up_the_black_bowl_on_the_ramekin"
        in capsys.readouterr().out
    )


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (
            {"suite": "libero_goal", "task": 0},
            r"the goal of libero_goal/open_the_middle_drawer_of_the_cabinet is \(Open",
        ),
        ({"suite": "libero_goal", "task": 5}, "has no room to grasp the object of libero_goal/push_the_plate"),
        ({"suite": "libero_object", "task": 10}, "task is 10; allowed: 0 to 9 of libero_object"),
        ({"suite": "libero_objects", "task": 0}, "suite is 'libero_objects'; allowed: libero_spatial, libero_object, "),
        ({"suite": "libero_object"}, "suite is 'libero_object', but task is null; allowed: the number of one"),
        ({"task": 0}, "task is 0, but suite is null; allowed: a suite of LIBERO"),
        ({"suite": "libero_object", "task": 0, "kind": "views"}, "kind is 'views', but suite is 'libero_object'"),
        ({"suite": "libero_object", "task": 0, "n_states": 51}, "n_states is 51; allowed: 1 to 50"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_collected(tmp_path: Path, wrong: dict, line: str) -> None:
    with pytest.raises(BadInput, match=line) as raised:
        collect.main(collect.Config(tmp_path / "out", n_workers=1, image_size=64, **wrong))
    assert "\n" not in str(raised.value)
    assert not [p for p in tmp_path.rglob("*") if p.name not in ("out", ".lock")]


def test_missing_assets_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"assets": str(tmp_path / "nowhere")}))
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(tmp_path))
    with pytest.raises(
        BadInput, match=r"LIBERO's asset .*nowhere/\S+ is missing; allowed: an installation with all"
    ) as e:
        collect.main(collect.Config(tmp_path / "out", suite="libero_object", task=6, n_workers=1))
    assert "\n" not in str(e.value)
    assert not [p for p in (tmp_path / "out").iterdir() if p.name != ".lock"]
