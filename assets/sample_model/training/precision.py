"""The type in which training computes its products.

bf16 where the processor has AVX-512. Elsewhere PyTorch takes it number by number: ten to a hundred times as long as
fp32 (a product of 1536 x 192 x 768 on an AMD EPYC with AVX2: 371 ms in bf16, 6 ms in fp32).
"""

import torch

COMPUTE = torch.bfloat16 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else torch.float32


def autocast() -> torch.autocast:
    """Products in COMPUTE, the rest in fp32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=COMPUTE is torch.bfloat16)
