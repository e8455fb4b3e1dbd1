"""Print how much disk the paper takes at most, as a table of Markdown.

python workflow/scripts/disk.py
"""

import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))

from workflow.lib import disk
from workflow.lib.catalogue import Catalogue

if __name__ == "__main__":
    ROOT = Path(__file__).parents[2]
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    print(disk.as_table(Catalogue.load(config, ROOT)))
