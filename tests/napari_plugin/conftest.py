"""A real window of napari, on a screen that nobody sees."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest


@pytest.fixture(scope="session")
def screen() -> Iterator[None]:
    """An X server without a screen, whatever display there is."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed: apt-get install xvfb")
    number, told = os.pipe()
    command = ["Xvfb", "-displayfd", str(told), "-screen", "0", "1400x900x24"]
    with subprocess.Popen(command, pass_fds=[told], stderr=subprocess.DEVNULL) as server:
        os.close(told)
        with os.fdopen(number) as line, pytest.MonkeyPatch.context() as patch:
            patch.setenv("DISPLAY", f":{line.readline().strip()}")
            patch.setenv("QT_QPA_PLATFORM", "xcb")
            yield
        server.terminate()


@pytest.fixture(scope="session")
def window(screen: None) -> Iterator[Any]:
    """The window of all tests, because to open one takes a while."""
    napari = pytest.importorskip("napari", reason="napari is missing: pip install '.[napari]'")
    # Triton, which trainings import, has an LLVM of its own. It crashes if it is loaded after the
    # LLVM with which Mesa draws where there is no GPU, and tests of trainings may follow these.
    import_module("torch._dynamo")
    viewer = napari.Viewer()
    yield viewer
    viewer.close()


@pytest.fixture
def viewer(window: Any) -> Iterator[Any]:
    """The viewer of the window, empty and without widgets."""
    yield window
    window.layers.clear()
    window.window.remove_dock_widget("all")
    window.reset_view()
