"""jaxrisk."""
