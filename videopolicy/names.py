"""What policies are called where people read about them."""

import re


def label(policy: str) -> str:
    """A policy's name with `regression` and `global` spelt out, so that nobody takes either for ACT."""
    return re.sub(r"(?<![a-z])(?<!coordinate )(regression|global)(?![a-z])", "coordinate regression", policy)
