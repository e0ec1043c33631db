"""Lets `python -m mergeline.cli` be the same as `mergeline`."""

from mergeline.cli import main

main()
