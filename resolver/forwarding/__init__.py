"""Names that are not ours, and parts of our names that others serve."""
