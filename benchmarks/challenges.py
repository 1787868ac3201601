"""What it costs to check a challenge, against what it costs to answer it: CPU seconds of one thread, in one run."""

import time

import torch

from gristmill_coordinator.domain import challenges
from gristmill_protocol.challenges import Opening
from gristmill_trainer.challenge import Prover

RUNS = 3


def seconds(number: int) -> tuple[float, float, int]:
    """Of proving, of verifying; and how many bytes the opening takes as JSON."""
    seed = number.to_bytes(32, "little")
    sizes = challenges.sizes(True, 0)
    prover = Prover(seed, sizes, torch.device("cpu"))
    started = time.process_time()
    commitment = prover.commit()
    proven = time.process_time()
    drawn = challenges.draw(seed, sizes)
    text = prover.open(drawn).model_dump_json()
    opened = time.process_time()
    wrong = challenges.wrong(seed, sizes, commitment, drawn, Opening.model_validate_json(text))
    verified = time.process_time()
    assert wrong == "", wrong
    return proven - started, verified - opened, len(text)


if __name__ == "__main__":
    torch.set_num_threads(1)
    runs = sorted((seconds(number) for number in range(RUNS)), key=lambda run: run[1] / run[0])
    proving, verifying, size = runs[RUNS // 2]
    print(
        f"CPU class: to prove {proving:.2f} s, to verify {1000 * verifying:.0f} ms, ratio {verifying / proving:.2%} "
        f"(limit 2 %); the opening takes {size / 1e6:.1f} MB"
    )
