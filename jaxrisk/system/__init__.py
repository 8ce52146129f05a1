"""What happens: the cascade, the step, simulate."""
