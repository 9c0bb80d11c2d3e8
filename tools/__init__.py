"""Build tools of the repository: running, checking and accepting the notebooks."""
