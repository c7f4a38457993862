"""Devices and processes: pmap and sharding, several hosts, memory handed back."""
