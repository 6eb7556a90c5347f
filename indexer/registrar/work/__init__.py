"""Jobs on their way to the chain: the journal, looking, deciding, doing."""
