"""A question and its answer: zones, messages, look-up, cache, cookies, rates; pure."""
