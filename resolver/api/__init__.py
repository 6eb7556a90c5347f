"""The HTTP API: its routes, what they say, and the registrar behind them."""
