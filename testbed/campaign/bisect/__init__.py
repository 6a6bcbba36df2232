"""Bisect: which of many elements (options, CPU flags, devices, differences) turn a verdict, in few boots."""
