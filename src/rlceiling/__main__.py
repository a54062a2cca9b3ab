"""`python -m rlceiling` is the command line."""

from rlceiling.cli import main

main()
