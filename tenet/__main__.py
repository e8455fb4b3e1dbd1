"""`python -m tenet`."""

from tenet.cli import main

main()
