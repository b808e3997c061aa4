"""Run the command line as ``python -m mipp_cli``."""

from mipp_cli.cli.entry import main

main()
