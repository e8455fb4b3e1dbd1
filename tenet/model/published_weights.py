"""Names of weights in the files of the published code."""

import re
from collections.abc import Mapping

from torch import Tensor

#: Published name -> name here; patterns are tried in order on each dotted name.
_RENAMES = (
    (r"^a$", "noise.logit_a"),
    (r"^sigma$", "noise.logit_sigma"),
    (r"^image\.blur\.neuripsf\.", "psf."),
    (r"^prev0\.conv\.", "encoder.stem."),
    (r"^prev\.", "encoder.stem_blocks."),
    (r"^postx\.(\d+)\.conv\.", r"encoder.shape_head.\1."),
    (r"^postz\.(\d+)\.conv\.", r"encoder.brightness_head.\1."),
    (r"^postx\.", "encoder.shape_head."),
    (r"^postz\.", "encoder.brightness_head."),
    (r"^mid\.", "encoder.level."),
)
_LEVEL_RENAMES = (
    (r"(level\.(?:deeper\.)*)mid\.", r"\1deeper."),
    (r"(level\.(?:deeper\.)*)pool\.conv\.", r"\1down."),
    (r"(level\.(?:deeper\.)*)conv\.", r"\1enter."),
    (r"(level\.(?:deeper\.)*)prev\.", r"\1before."),
    (r"(level\.(?:deeper\.)*)post\.", r"\1after."),
    (r"(level\.(?:deeper\.)*)unpool\.conv\.", r"\1up."),
)


def published_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the names of published weights to the names here."""
    translated = {}
    for name, value in state.items():
        if name.endswith(("_estimated_mean", "_estimated_fisher")) or name == "image.log_ez0":
            continue
        for pattern, replacement in _RENAMES:
            renamed = re.sub(pattern, replacement, name)
            if renamed != name:
                name = renamed
                break
        while ".mid." in name:
            name = re.sub(*_LEVEL_RENAMES[0], name)
        for pattern, replacement in _LEVEL_RENAMES[1:]:
            name = re.sub(f"^encoder\\.{pattern}", f"encoder.{replacement}", name)
        translated[name] = value
    return translated
