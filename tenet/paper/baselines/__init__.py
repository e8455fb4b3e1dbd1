"""The methods that TENET is compared with."""
