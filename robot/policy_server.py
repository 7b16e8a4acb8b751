"""A trained policy in a process of its own: what it does to memory, threads or itself cannot stop the arm's loop.

python -m robot.policy_server FD RUN [--threads N] [--device cpu]

Serves `robot/policy_process.py` over the socket FD: a line of JSON and a picture's bytes in, a line of JSON out.
"""

import argparse
import json
import socket
from pathlib import Path

import numpy as np
import torch

from robot.messages import chunk_to_json, observation_from_json, receive
from videopolicy.config import guarded
from videopolicy.errors import BadInput
from videopolicy.policy import FeaturePolicy, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fd", type=int)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with socket.socket(fileno=args.fd) as line:
        try:
            policy, config = opened(args.run, args.device)
        except BadInput as error:
            line.sendall(json.dumps({"error": str(error)}).encode() + b"\n")
            raise SystemExit(2) from None
        file = line.makefile("rb")
        about = {"ready": str(args.run), "head": config["head"]["kind"], "threads": torch.get_num_threads()}
        line.sendall(json.dumps(about).encode() + b"\n")
        while (request := receive(file)) is not None:
            header, body = request
            observation = observation_from_json(header, np.frombuffer(body, np.uint8))
            line.sendall(json.dumps(chunk_to_json(policy.act(observation))).encode() + b"\n")


def opened(run: Path, device: str) -> tuple[FeaturePolicy, dict]:
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise BadInput(f"--device is {device!r}; allowed: cpu, or cuda where there is a GPU")
    return load(run, device)


if __name__ == "__main__":
    guarded(main)
