"""One file per claim; `python -m benchmarks` measures them all side by side."""
