"""Tests of ``rxws/observables``."""
