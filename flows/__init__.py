"""Prefect flows and the command line: the only code that imports prefect."""
