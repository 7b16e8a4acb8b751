"""Open a simulator's scene once, so that numba compiles what robosuite's control needs and keeps it beside robosuite.

python scripts/first_scene.py

Whoever opens the first scene would wait for it, and every simulator that starts meanwhile would do the same work.
"""

from eval.scene import Scene

if __name__ == "__main__":
    Scene(64).close()
    print("a simulator's scene: ok")
