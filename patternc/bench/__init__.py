"""Measuring compiled patterns beside other attention, and finding how their kernels run best on a device."""
