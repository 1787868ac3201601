"""Finished models, asked the way Studio asks them: hostile inputs, one process for many questions, limits."""

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from gristmill_protocol.errors import BadData, NotFound, Unavailable
from gristmill_trainer.__main__ import main
from gristmill_trainer.tryout import Limits, Tryouts, ask

MakeTask = Callable[..., Path]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(make_task: MakeTask, digits: Path) -> Path:
    folder = make_task(digits, settings={"quality": "quick", "rounds": 20, "batch": 16})
    assert main(["run", str(folder)]) == 0
    return folder / "out" / "result"


@pytest.fixture(scope="module")
def tryouts() -> Iterator[Tryouts]:
    with Tryouts() as ready:
        yield ready


def picture(digits: Path, answer: str) -> bytes:
    return min((digits / answer).iterdir()).read_bytes()


def test_answers_come_in_the_order_of_the_questions(tryouts: Tryouts, model: Path, digits: Path) -> None:
    answers = tryouts.ask(model, [(answer, picture(digits, answer)) for answer in "3102"])

    assert [(one.file, one.answer) for one in answers] == [(answer, answer) for answer in "3102"]
    assert all(0 < one.confidence <= 1 for one in answers)


def test_what_cannot_be_read_is_told_and_the_next_question_answered(
    tryouts: Tryouts, model: Path, digits: Path
) -> None:
    with pytest.raises(BadData, match=r"cat\.png"):
        tryouts.ask(model, [("cat.png", b"<script>")])

    assert [one.answer for one in tryouts.ask(model, [("1.png", picture(digits, "1"))])] == ["1"]


def test_a_picture_with_huge_dimensions_is_refused(tryouts: Tryouts, model: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")

    with pytest.raises(BadData, match="too many"):
        tryouts.ask(model, [("bomb.png", buffer.getvalue())])


def test_the_process_stays_ready_and_the_oldest_one_makes_room(model: Path, digits: Path, tmp_path: Path) -> None:
    question = [("1.png", picture(digits, "1"))]
    copy = shutil.copytree(model, tmp_path / "copy")
    with Tryouts(ready=1) as one:
        processes = [(one.ask(where, question), one.process_id(where)) for where in (model, model, copy)]

        assert [answers[0].answer for answers, _ in processes] == ["1"] * 3
        assert processes[0] == processes[1]
        assert one.process_id(model) is None


def test_a_slow_answer_is_given_up(model: Path) -> None:
    with pytest.raises(Unavailable, match="longer than 0 s"):
        ask(model, [("1.png", b"x")], Limits(first_s=0.01))


def test_an_input_that_takes_too_much_memory_leaves_the_model_ready(model: Path, digits: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (6_000, 9_000)).save(buffer, "PNG")
    with Tryouts(Limits(memory_bytes=300 * 2**20)) as narrow:
        with pytest.raises(Unavailable, match="more memory"):
            narrow.ask(model, [("large.png", buffer.getvalue())])

        assert narrow.ask(model, [("1.png", picture(digits, "1"))])[0].answer == "1"


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no model"):
        ask(tmp_path, [("1.png", b"x")])
