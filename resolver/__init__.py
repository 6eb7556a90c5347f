"""From a packet to its answer, and the door of the house."""
