"""Wires the stages into one running system; the only place where the loop is closed."""
