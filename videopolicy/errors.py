"""The one exception that ends a command with a single clear line instead of a traceback."""


class BadInput(ValueError):
    """What the user gave cannot be used; the message names the offending value and the allowed ones."""


def choices(name: str, value: object, allowed: object) -> BadInput:
    """`BadInput` for a value outside a closed set."""
    return BadInput(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")  # type: ignore[call-overload]


def at_least_one(owner: object, *names: str, of: str = "") -> None:
    """`BadInput` for the first of an object's numbers below 1; `of`: what its options' names begin with."""
    for name in names:
        if (value := getattr(owner, name)) < 1:
            raise BadInput(f"{of}{name} is {value}; allowed: at least 1")
