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
from videopolicy.policy import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fd", type=int)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    policy, config = load(args.run, args.device)
    with socket.socket(fileno=args.fd) as line:
        file = line.makefile("rb")
        line.sendall(json.dumps({"ready": str(args.run), "head": config["head"]["kind"]}).encode() + b"\n")
        while (request := receive(file)) is not None:
            header, body = request
            observation = observation_from_json(header, np.frombuffer(body, np.uint8))
            line.sendall(json.dumps(chunk_to_json(policy.act(observation))).encode() + b"\n")


if __name__ == "__main__":
    guarded(main)
