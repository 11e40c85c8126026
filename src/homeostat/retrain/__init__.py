"""Decides when the next model is trained; training itself is asked of `train`."""
