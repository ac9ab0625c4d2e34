"""The store `postgresql://HOST/DATABASE`: many workers on many machines.  `store` may be imported from outside."""
