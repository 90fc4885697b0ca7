"""Tests of ``rxws/recording``."""
