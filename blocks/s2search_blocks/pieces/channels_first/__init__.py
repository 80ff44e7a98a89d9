"""Every part of a model again with channels before tokens, (B, C, 1, S), the layout that the Neural Engine works in.

A twin computes what the trained module computes, from the module's own weights: linear maps are 1x1 convolutions whose
kernels are views of the matrices. Nothing is transposed, and no tensor has more than four axes but for views that
exporters join. A twin is made for one chunk length, grid and window, and its state is a dictionary of tensors. Twins
serve tracing: they take batch 1 and one noise level for all frames.

Source of the layout: Apple, "Deploying Transformers on the Apple Neural Engine" (2022), and its ml-ane-transformers.
"""
