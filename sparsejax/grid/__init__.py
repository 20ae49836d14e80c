"""Grids of runs: stated in one file, worked through by any number of workers, resumable."""
