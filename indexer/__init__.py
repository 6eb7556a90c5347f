"""From the chain to the name table, and back."""
