"""How a job's work is checked, and what that guarantees: one sentence each, the same in quote, job and certificate."""

from enum import StrEnum


class Mode(StrEnum):
    """From the strongest to the weakest."""

    BITWISE = "bitwise"
    TOLERANCE = "tolerance"
    REPLICATE = "replicate"
    OUTCOME = "outcome"
    REPUTATION = "reputation"


class Numerics(StrEnum):
    """What a recipe computes with: it decides how far honest machines of different kinds drift apart."""

    ADAM_FP32 = "adam-fp32"
    ADAM_BF16 = "adam-bf16"  # and low-rank adapters
    SGD_FP32 = "sgd-fp32"  # with momentum


GUARANTEES = {
    Mode.BITWISE: "Steps drawn at random are run again on another owner's machine and must match bit for bit: "
    "faking them costs more than it saves.",
    Mode.TOLERANCE: "Steps drawn at random are run again on machines of another kind and must come out close: "
    "skipped work is caught, lower precision only partly.",
    Mode.REPLICATE: "The whole job runs on several owners' machines, and what most of them agree on counts: "
    "right as long as most of those drawn are honest.",
    Mode.OUTCOME: "The result is measured on examples that the provider never saw, and paid if it is as good as asked: "
    "how it was made is not checked.",
    Mode.REPUTATION: "The work is not checked, only the machine and the provider's record are: "
    "a fifth of the pay is held back for seven days.",
}
