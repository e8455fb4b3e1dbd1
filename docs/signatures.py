"""Types and defaults in the API page come from signatures, where numpydoc leaves them open.

Griffe takes the first of {"C", "T"} for the default, and the type of the first of several
parameters that share a description for that of all.
"""

from typing import Any

import griffe


class Signatures(griffe.Extension):
    """Corrects the parameters of every docstring."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Take defaults, and types of parameters described together, from the signature."""
        for section in func.docstring.parsed if func.docstring else ():
            if section.kind is not griffe.DocstringSectionKind.parameters:
                continue
            owners = {id(parameter.annotation): parameter.name for parameter in func.parameters}
            for described in section.value:
                if described.name not in func.parameters:
                    continue
                own = func.parameters[described.name]
                described.value = own.default
                if owners.get(id(described.annotation), own.name) != own.name:
                    described.annotation = own.annotation
