"""What does not come back, and what drifts, in hours of use."""
