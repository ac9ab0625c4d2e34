"""Drivers: everything with IO.  They carry decisions out and decide nothing."""
