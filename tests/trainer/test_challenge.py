"""The real prover: the same bits as the formulas in plain Python, and the conversation with the node."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes.prover import TINY
from gristmill_coordinator.domain import challenges
from gristmill_protocol.challenges import Commitment, Draw, Opening, Sizes
from gristmill_protocol.errors import BadRequest
from gristmill_protocol.progress import ChallengeCommitted, ChallengeOpened, ChallengeReady, TrainerEvent
from gristmill_trainer.challenge import Prover, answer

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "challenges.json").read_text())
CPU = torch.device("cpu")


@pytest.mark.parametrize("vector", VECTORS)
def test_the_prover_gives_the_golden_bits(vector: dict[str, Any]) -> None:
    prover = Prover(bytes.fromhex(vector["seed"]), Sizes.model_validate(vector["sizes"]), CPU)

    assert prover.commit() == Commitment.model_validate(vector["commitment"])
    opening = prover.open(Draw.model_validate(vector["draw"]))
    assert opening == Opening.model_validate_json(json.dumps(vector["opening"]))


def test_a_draw_of_what_is_not_there_is_refused() -> None:
    prover = Prover(b"s" * 32, TINY, CPU)
    prover.commit()

    with pytest.raises(BadRequest):
        prover.open(Draw(rounds=(TINY.rounds,), rows=(0,), leaves=(0,)))


def test_it_waits_for_the_seed_and_for_the_draw(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "challenge.json").write_text(TINY.model_dump_json())
    drawn = challenges.draw(b"entropy", TINY)
    said: list[TrainerEvent] = []

    def hear(event: TrainerEvent) -> None:
        said.append(event)
        match event:
            case ChallengeReady():
                _put(tmp_path / "input" / "seed", (b"s" * 32).hex())
            case ChallengeCommitted():
                _put(tmp_path / "input" / "draw.json", drawn.model_dump_json())

    running = threading.Thread(target=answer, args=(tmp_path, CPU, hear))
    running.start()
    running.join(timeout=30)

    ready, committed, opened = said
    assert isinstance(ready, ChallengeReady)
    assert isinstance(committed, ChallengeCommitted)
    assert isinstance(opened, ChallengeOpened)
    assert challenges.wrong(b"s" * 32, TINY, committed.commitment, drawn, opened.opening) == ""


def test_sizes_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    (tmp_path / "challenge.json").write_text('{"n": 7}')

    with pytest.raises(BadRequest, match=r"challenge\.json"):
        answer(tmp_path, CPU, lambda _: None)


def _put(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)
