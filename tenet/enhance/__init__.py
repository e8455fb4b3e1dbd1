"""A model applied to stacks of any size.

The package can be called: ``tenet.enhance(stack, model)`` is `tenet.enhance.arrays.enhance`,
because Python has one name for the package and the function.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenet.enhance.arrays import EnhancedStack


class _Enhance(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> "EnhancedStack":
        from tenet.enhance.arrays import enhance

        return enhance(*args, **kwargs)


sys.modules[__name__].__class__ = _Enhance
