"""What it means: tails, solvency, exposure."""
