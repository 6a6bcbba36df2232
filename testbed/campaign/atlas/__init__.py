"""Atlas: the documented bugs over kernels and QEMUs: where each is reproduced, and since which version."""
