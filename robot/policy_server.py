"""A trained policy in a process of its own: what it does to memory, threads or itself cannot stop the arm's loop.

python -m robot.policy_server FD RUN [--threads N] [--device cpu] [--heatmaps]

Serves `robot/policy_process.py` over the socket FD: a line of JSON and a picture's bytes in, a line of JSON out.
"""

import argparse
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from robot.messages import chunk_to_json, observation_from_json, receive
from videopolicy.config import guarded
from videopolicy.errors import BadInput
from videopolicy.heads.heatmap import Heatmaps
from videopolicy.policy import FeaturePolicy, load
from videopolicy.types import ActionChunk, Observation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fd", type=int)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--heatmaps", action="store_true", help="send them with each chunk, of a head that has them")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with socket.socket(fileno=args.fd) as line:
        try:
            policy, config = load(args.run, args.device)
        except BadInput as error:
            line.sendall(json.dumps({"error": str(error)}).encode() + b"\n")
            raise SystemExit(2) from None
        file = line.makefile("rb")
        about = {"ready": str(args.run), "head": config["head"]["kind"], "threads": torch.get_num_threads()}
        line.sendall(json.dumps(about).encode() + b"\n")
        while (request := receive(file)) is not None:
            header, body = request
            observation = observation_from_json(header, np.frombuffer(body, np.uint8))
            chunk = acted(policy, observation) if args.heatmaps else policy.act(observation)
            line.sendall(json.dumps(chunk_to_json(chunk)).encode() + b"\n")


@torch.inference_mode()
def acted(policy: FeaturePolicy, observation: Observation) -> ActionChunk:
    """What `policy.act` says, with the heatmaps that it was read from."""
    prediction = policy.predict([observation])
    (chunk,) = policy.head.decode(prediction, [observation.camera])
    return replace(chunk, heatmaps=heatmaps(prediction))


def heatmaps(prediction: Any) -> UInt8[np.ndarray, "step row col"] | None:
    """Of a batch of one, on the head's grid: probabilities in 255ths of each step's likeliest cell; None without."""
    if not isinstance(prediction, Heatmaps):
        return None
    logits = prediction.heatmap[0]
    share = (logits - logits.amax((-2, -1), keepdim=True)).exp()
    return (255 * share).round().to(torch.uint8).cpu().numpy()


if __name__ == "__main__":
    guarded(main)
