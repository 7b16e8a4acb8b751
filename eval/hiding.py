"""Whether a robot that is hidden has left anything in the pictures: itself, its shadow, or its mirror image."""

from eval.simulation import Simulation
from videopolicy.errors import BadInput

TURN = 0.6  # of every joint, to see whether pictures change [rad]


def check_hidden(simulation: Simulation) -> None:
    """`BadInput` where the present picture shows the robot, or would be another one if the arm stood elsewhere."""
    where = f"camera at {simulation.camera.position.round(2).tolist()}"
    shown = int(simulation.robot_mask().sum())
    if shown:
        raise BadInput(f"{where}: {shown} pixels show the robot although it is hidden; allowed: none")
    changed = int((simulation.render() != simulation.render_turned(TURN)).any(-1).sum())
    if changed:
        raise BadInput(
            f"{where}: {changed} pixels change with the arm although it is hidden, as by its shadow; allowed: none"
        )
