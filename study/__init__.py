"""The command line and the protocol: search, confirm, report."""
