"""A wish, its price, its steps and its outputs, before anything is signed."""
