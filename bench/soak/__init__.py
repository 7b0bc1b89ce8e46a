"""Hours of honest and hostile clients against `weir serve`: what tools/soak consists of."""
