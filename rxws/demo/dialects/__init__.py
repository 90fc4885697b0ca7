"""The ways in which the websockets of some venues differ from others. Each dialect has its own module."""
