"""Whole lives by seed: the command that runs them, seeds that once failed, and deliberate bugs that lives must find."""
