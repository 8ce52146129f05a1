"""What moves: market state, path models, impact, oracles."""
