"""Check that a headless GL context opens; install the system libraries where that is possible, or say how.

python scripts/check_gl.py
"""

import os
import shutil
import subprocess
import sys

PACKAGES = "libegl1 libgl1 libgles2 libegl-mesa0 libgl1-mesa-dri libosmesa6"
PROBE = """
import mujoco
world = '<light pos="0 0 3"/><geom size="1" rgba="1 0 0 1"/>'
model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{world}</worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 64, 64)
renderer.update_scene(data)
assert renderer.render().max() > 0, "the picture is black"
renderer.close()
"""


def opens() -> bool:
    backend = os.environ.get("MUJOCO_GL", "egl")
    environment = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    result = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=False)
    return result.returncode == 0


def main() -> int:
    if opens():
        print("headless rendering: ok")
        return 0
    install = f"apt-get install -y {PACKAGES}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(
            f"error: no headless GL context opens. Run this once, then `make setup` again:\n    sudo {install}",
            file=sys.stderr,
        )
        return 2
    print(f"headless rendering: no context opens; running {install}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-qq", "-y", *PACKAGES.split()]):
        subprocess.run(["apt-get", *arguments], env=quiet, check=False)
    if opens():
        print("headless rendering: ok")
        return 0
    print("error: no headless GL context opens, even with the packages installed", file=sys.stderr)
    print("try `export MUJOCO_GL=osmesa`, then `make setup` again", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
