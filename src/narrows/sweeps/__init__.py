"""Sweeps: which jobs there are, each its own process, and a record that survives any end."""
