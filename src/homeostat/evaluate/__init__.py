"""Evaluation: metrics overall and by slice, calibration, the threshold and the gates."""
