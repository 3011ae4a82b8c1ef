"""Upgrades of a running fleet: the workers of two releases side by side on one log, under load, there and back.

`releases` exports the last release from the repository, and plants a next one; `fleet` runs programs of either;
`roll` replaces them one by one while clients pay. The checker of all runs (`tests.support.checker`) judges.
"""
