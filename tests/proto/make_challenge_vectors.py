"""Golden vectors of challenges, computed in plain Python by tests/fakes/prover.py.

PYTHONPATH=tests:proto python tests/proto/make_challenge_vectors.py > tests/vectors/challenges.json
"""

import json
import sys
from typing import Any

from fakes.prover import TINY, Prover
from gristmill_protocol.challenges import Draw, Sizes

DRAW = Draw(rounds=(1, 0), rows=(3, 15), leaves=(2, 5, 77, 159))
ODD = Sizes(n=24, rounds=2, lanes=5, leaves=3, blocks=65, sweeps=3)


def vector(seed: bytes, sizes: Sizes) -> dict[str, Any]:
    prover = Prover(seed, sizes)
    commitment = prover.commit()
    return {
        "seed": seed.hex(),
        "sizes": sizes.model_dump(mode="json"),
        "commitment": commitment.model_dump(mode="json"),
        "draw": DRAW.model_dump(mode="json"),
        "opening": json.loads(prover.open(DRAW).model_dump_json()),
    }


if __name__ == "__main__":
    json.dump([vector(bytes(range(32)), TINY), vector(b"\xff" * 32, ODD)], sys.stdout, indent=1)
    sys.stdout.write("\n")
