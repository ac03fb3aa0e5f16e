"""`python -m thinslice`."""

from thinslice.cli import main

main()
