"""Scripts that measure, and the records of what they measured. Nothing here is installed."""
