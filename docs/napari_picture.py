"""Draw docs/images/napari.png: `python docs/napari_picture.py`, with a display or `xvfb-run -a`."""

import time
from pathlib import Path

import napari
from matplotlib.image import imsave
from qtpy.QtWidgets import QApplication

OUT = Path(__file__).parent / "images/napari.png"


def wait(seconds: float) -> None:
    """Let the window work."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


viewer = napari.Viewer()
viewer.window.resize(1500, 940)
_, widget = viewer.window.add_plugin_dock_widget("tenet", "Enhance")
(raw,) = viewer.open_sample("tenet", "dendrites")
widget.start()
while widget.worker is not None:
    wait(0.1)
_, compare = viewer.window.add_plugin_dock_widget("tenet", "Compare")
compare.choose(raw, viewer.layers[1])
compare.side_by_side()
viewer.dims.ndisplay = 3
viewer.camera.angles = (0, 0, 90)
viewer.scale_bar.visible = True
viewer.scale_bar.font_size = 14
viewer.fit_to_view(margin=0.02)
wait(2)
imsave(OUT, viewer.screenshot(canvas_only=False)[..., :3])
viewer.close()
