"""What a user writes: frozen values, checked when they are made and again as one system."""
