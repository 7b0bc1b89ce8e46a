"""Servers side by side under the same load: what tools/bench consists of."""
