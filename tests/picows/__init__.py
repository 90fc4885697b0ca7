"""Connections whose frames picows receives."""
