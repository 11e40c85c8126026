"""Shadow, canary, blue-green, promote, roll back: pure decisions."""
