"""A model applied to stacks of any size.

The package can be called: ``tenet.enhance(stack)`` is `tenet.tasks.arrays.enhance`, because Python
has one name for the package and the function. The function is found by its name when it is called,
as `tenet` finds its own.
"""

import sys
from importlib import import_module
from inspect import Signature, signature
from types import ModuleType
from typing import Any

_ARRAYS = "tenet.tasks.arrays"


class _Enhance(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return import_module(_ARRAYS).enhance(*args, **kwargs)

    @property
    def __signature__(self) -> Signature:
        return signature(import_module(_ARRAYS).enhance)

    def __reduce__(self) -> tuple[Any, ...]:
        # A module cannot be sent to another process; by its name it can.
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Enhance
