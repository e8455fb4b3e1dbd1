"""`tenet evaluate real`: one condition of the bench of real structures."""

from collections.abc import Sequence

from matplotlib import rc_context

from tenet.enhance.views import save
from tenet.model.trained import TrainedModel
from tenet.paper.figures.real import condition_figure
from tenet.paper.figures.style import STYLE
from tenet.paper.real.bench import Condition, judge
from tenet.paper.real.summary import PSF, RESULTS
from tenet.paper.tasks.tables import write_tables

PICTURE = "picture.png"


def run_condition(condition: Condition, methods: Sequence[str]) -> list[str]:
    """Simulate, fine-tune and judge; write results, PSFs and a picture, and describe the tables."""
    outcome = judge(condition, methods)
    fine_um = TrainedModel.settings_of(condition.model).params.fine_voxel_size_um
    title = f"{condition.kind}, {condition.beam}"
    with rc_context(STYLE):
        figure = condition_figure(title, outcome.first, outcome.scores, fine_um)
        save(figure, condition.out / PICTURE, dpi=200)
    return write_tables(
        {condition.out / PSF: outcome.psf, condition.out / RESULTS: outcome.results}
    )
