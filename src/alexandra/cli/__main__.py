"""`python -m alexandra.cli`."""

from alexandra.cli import main

main()
