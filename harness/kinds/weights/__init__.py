"""The weights of `harness.kinds.features`, and the script that trained them."""
