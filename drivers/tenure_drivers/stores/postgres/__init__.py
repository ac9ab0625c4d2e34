"""The store `postgresql://HOST/DATABASE`: many workers on many machines."""
