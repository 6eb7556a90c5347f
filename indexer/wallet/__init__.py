"""Keys, coins, payments, PSBT and signers: what the registrar and the sandbox share."""
