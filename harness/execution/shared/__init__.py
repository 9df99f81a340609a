"""Code of both sides: messages, shared memory, process trees, the seccomp filter and the answers of the probe."""
