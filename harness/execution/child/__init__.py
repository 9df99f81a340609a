"""Code that runs inside a sandbox: lockdown, probe, server and trial. Imports nothing of `parent`."""
