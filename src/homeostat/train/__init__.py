"""Training: from point-in-time rows to a fitted, packaged and registered model."""
