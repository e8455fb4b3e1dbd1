"""Which calls of a network in training get which recording; the recording itself needs a GPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tenet.networks import recording
from tenet.networks.recording import MOST_PASSES, Passes


class Recorded(Passes):
    """Says who computed what; `error` is raised in place of the next recording."""

    def __init__(self) -> None:
        self.network = nn.Linear(1, 1)
        self.calls: list[int | str] = []
        self.error: RuntimeError | None = None
        super().__init__(self._as_it_is, self.network)

    def _as_it_is(self, image: Tensor) -> tuple[Tensor]:
        self.calls.append("as it is")
        return (self.network(image),)

    def _record(self, tensors: tuple[Tensor, ...]) -> Callable[..., Any]:
        if self.error is not None:
            raise self.error
        number = sum(map(len, self.passes.values()))

        def replay(image: Tensor) -> tuple[Tensor]:
            self.calls.append(number)
            return (self.network(image),)

        return replay


def test_a_call_whose_gradients_are_to_come_keeps_its_recording() -> None:
    passes, image = Recorded(), torch.ones(2, 1)
    for _ in range(2):
        first, second = passes(image)[0], passes(image)[0]
        (first.sum() + second.sum()).backward()
    passes(image)[0].sum().backward()
    assert passes.calls == [0, 1, 0, 1, 0]


def test_shapes_and_precisions_have_recordings_of_their_own() -> None:
    passes = Recorded()
    for length in (2, 3, 2):
        passes(torch.ones(length, 1))[0].sum().backward()
    assert passes.calls == [0, 1, 0]


def test_a_mode_has_recordings_of_its_own() -> None:
    """Norms that keep their statistics compute other things."""
    passes, image = Recorded(), torch.ones(2, 1)
    for mode in (True, False, True):
        passes.network.train(mode)
        passes(image)[0].sum().backward()
    assert passes.calls == [0, 1, 0]


def test_what_goes_beyond_the_most_is_computed_as_it_is() -> None:
    passes, image = Recorded(), torch.ones(2, 1)
    kept = [passes(image) for _ in range(MOST_PASSES + 2)]
    assert passes.calls == [*range(MOST_PASSES), "as it is", "as it is"]
    sum(result[0].sum() for result in kept).backward()
    with recording.as_it_is():
        passes(image)
    assert passes.calls[-1] == "as it is"
    passes(image)
    assert passes.calls[-1] == 0


def test_where_memory_is_short_all_recordings_are_given_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    passes, image = Recorded(), torch.ones(2, 1)
    waiting = passes(image)[0]
    passes.error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore")
    second = passes(image)[0]
    assert passes.calls == [0, "as it is"]
    assert not passes.passes
    assert capsys.readouterr().err == (
        "nothing is recorded on cpu, so it is slower: CUDA out of memory. Tried to allocate\n"
    )
    passes.error = None
    (waiting.sum() + second.sum()).backward()
    passes(image)
    assert passes.calls[-1] == "as it is"
