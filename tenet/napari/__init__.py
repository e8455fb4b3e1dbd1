"""TENET in napari: a reader of results, a sample, and widgets to enhance and to compare.

napari finds all of these by ``napari.yaml``. The extra `napari` of the package brings napari and
Qt; nothing else in `tenet` imports them.
"""
