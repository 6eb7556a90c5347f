"""From a hash to the data it stands for."""
