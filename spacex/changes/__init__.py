"""Change between two time steps: differences, their standard errors, and the places that exceed the noise."""
