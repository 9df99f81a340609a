"""Slots on the machines of a Ray cluster: the agent on each slot, and the proxies in the coordinator."""
