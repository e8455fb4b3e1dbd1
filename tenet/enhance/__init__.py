"""A model applied to stacks of any size.

The package can be called: ``tenet.enhance(stack, model)`` is `tenet.enhance.arrays.enhance`,
because Python has one name for the package and the function.
"""

import sys
from importlib import import_module
from inspect import Signature, signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenet.enhance.arrays import EnhancedStack


class _Enhance(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> "EnhancedStack":
        from tenet.enhance.arrays import enhance

        return enhance(*args, **kwargs)

    @property
    def __signature__(self) -> Signature:
        from tenet.enhance.arrays import enhance

        return signature(enhance)

    def __reduce__(self) -> tuple[Any, ...]:
        # A module cannot be sent to another process; by its name it can.
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Enhance
