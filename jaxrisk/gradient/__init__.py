"""How it changes: estimators and their referee."""
