"""aten::_convert_weight_to_int4pack (CUDA only) by its layout, for a CPU."""
import torch


def pack(packed, inner_k_tiles):
    """packed: U8 [N, K/2], the high nibble the even k. Returns I32 [N/8, K/128, 32, 4]."""
    assert inner_k_tiles == 8
    codes = torch.stack([packed >> 4, packed & 15], dim=2).reshape(packed.shape[0], -1).to(torch.int64)
    n, k = codes.shape
    assert n % 8 == 0 and k % 128 == 0
    t = torch.arange(32)
    out = torch.zeros(n // 8, k // 128, 32, 4, dtype=torch.int64)
    for row in range(n // 8):
        rows = codes[8 * row + t // 4]  # [32, K]
        for outer in range(k // 128):
            for j in range(4):
                first = 128 * outer + 32 * j + 2 * (t % 4)
                for bit, step in ((0, 0), (4, 8), (8, 16), (12, 24), (16, 1), (20, 9), (24, 17), (28, 25)):
                    out[row, outer, :, j] |= rows[torch.arange(32), first + step] << bit
    return torch.where(out >= 2**31, out - 2**32, out).to(torch.int32)
