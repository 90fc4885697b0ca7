"""Whole lives by seed: the command that plays them, the seeds that once failed, the ways in which rxws is broken."""
