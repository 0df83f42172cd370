"""How a job's memory is allocated on the CPU: kept by the process once it has been touched.

By default glibc maps each large block anew and gives it back when it is freed, so every activation
of every tile is zeroed page by page by the kernel. Measured on one core (base 16, depth 4, bf16):
tiles of 1024 px 1.9 -> 3.2 Mpx/s, of 2048 px 1.2 -> 3.4 Mpx/s; peak memory rises by 5 to 25 %.
"""

import ctypes

# <malloc.h>: parameters of mallopt.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_large_allocations() -> bool:
    """Tell glibc to serve all blocks from one heap and never to shrink it; False without glibc.

    One arena, because only the main heap grows beyond 64 MB blocks. To be called before the large
    blocks are allocated, once for each process.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # macOS, musl
        return False
    settings = [(M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1)]
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
