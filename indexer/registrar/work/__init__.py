"""Jobs on their way to the chain: observe, decide, execute, and a journal of it all."""
