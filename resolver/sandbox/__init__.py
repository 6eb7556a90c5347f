"""Everything on one machine, with names in it."""
