"""The tests: each states a behaviour."""
