"""Weights and results that come with the package, and saving and loading your own."""
