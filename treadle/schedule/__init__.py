"""How kernels run: loops, lanes, tiles, packing; decided from the problem and the CPU's description.

Open `loops.py` first (most kernels), then `product.py` and `matmul.py`.
"""
