"""What training augments with, for a batch on any device: (B, 3, H, W) float32 tensors, one record of params a sample.

The records are those that `sample` draws, the results those of the NumPy parts: equal where all sums are exact (web
wear, JPEG, the numbers of fields), else within one code on a CPU. Needs torch and NumPy only, nothing imports it unless
it is asked for, so `degradations` works without torch.
"""
