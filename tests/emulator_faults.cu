/* Kernels that are wrong, one fault each, for test_cuda_emulator.py: what they do is undefined on a GPU. */
#include "tensor_cores.cuh"
#define EXPORT extern "C" __attribute__((visibility("default")))

/* ---- barriers */
static __global__ void half_waits(real *)
{
    if (threadIdx.x < 16) __syncthreads();
}
static __global__ void some_have_ended(real *)
{
    if (threadIdx.x >= 40) return;
    __syncthreads();
}
static __global__ void two_barriers(real *)
{
    if (threadIdx.x % 2) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}
static __global__ void lane_stays_away(real *x)
{
    if (threadIdx.x != 5) x[0] = __shfl_xor_sync(0xFFFFFFFFu, x[0], 1);
}
static __global__ void not_in_its_mask(real *) { __syncwarp(0x0000FFFFu); }
static __global__ void from_who_takes_no_part(real *x)
{
    if (threadIdx.x < 16) x[threadIdx.x] = __shfl_xor_sync(0x0000FFFFu, x[threadIdx.x], 16);
}

/* ---- shared memory */
static __global__ void beyond_shared(real *x)
{
    SHARED_ARRAY(real, few, 40);
    few[threadIdx.x] = 0;
    x[0] = few[0];
}
static __global__ void before_shared(real *x)
{
    SHARED_MATRIX(real, table, 8, 8);
    x[0] = table[threadIdx.x % 8][(int)threadIdx.x - 1];
}
static __global__ void beyond_row(real *x)
{
    SHARED_MATRIX(real, table, 8, 8);
    x[0] = table[threadIdx.x][0];
}
static __global__ void beyond_dynamic(real *x)
{
    DYNAMIC_SHARED(real, some);
    x[0] = some[threadIdx.y * 8 + threadIdx.x];
}
static __global__ void too_much_shared(real *x)
{
    SHARED_ARRAY(real, large, 12289);
    x[0] = large[0];
}
static __global__ void not_written(real *x)
{
    SHARED_ARRAY(real, some, 64);
    x[threadIdx.x] = some[threadIdx.x];
}

/* ---- device memory: x has 1024 values, a page */
static __global__ void reads_beyond(real *x) { x[0] = x[1024 + threadIdx.x]; }
static __global__ void writes_before(real *x) { x[-1] = 0; }
static __global__ void reads_nothing(real *x) { x[0] = *(volatile real *)NULL; }
static __global__ void writes_behind(real *x) { x[1000] = 0; } /* of 1000: within the page */

/* ---- tensor cores */
typedef wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> halves;
typedef wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::row_major> singles;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 8, wmma::precision::tf32, wmma::row_major> columns;
typedef wmma::fragment<wmma::accumulator, 16, 16, 8, float> sums;
static __global__ void lane_has_no_share(real *)
{
    SHARED_MATRIX(__half, a, 16, 16);
    halves f;
    if (threadIdx.x != 5) wmma::load_matrix_sync(f, &a[0][0], 16);
}
static __global__ void shares_of_two(real *)
{
    SHARED_MATRIX(__half, a, 64, 16);
    halves f;
    wmma::load_matrix_sync(f, &a[threadIdx.x == 7 ? 16 : 0][0], 16);
}
static __global__ void other_distances(real *)
{
    SHARED_MATRIX(__half, a, 64, 16);
    halves f;
    wmma::load_matrix_sync(f, &a[0][0], threadIdx.x == 7 ? 24 : 16);
}
static __global__ void fragment_off_its_place(real *)
{
    SHARED_MATRIX(__half, a, 32, 16);
    halves f;
    wmma::load_matrix_sync(f, &a[0][8], 16);
}
static __global__ void rows_off_their_place(real *)
{
    SHARED_MATRIX(__half, a, 32, 20);
    halves f;
    wmma::load_matrix_sync(f, &a[0][0], 20);
}
static __global__ void fragment_beyond(real *)
{
    SHARED_MATRIX(__half, a, 31, 16);
    halves f;
    wmma::load_matrix_sync(f, &a[16][0], 16);
}
static __global__ void half_a_warp(real *)
{
    SHARED_MATRIX(__half, a, 16, 16);
    halves f;
    wmma::load_matrix_sync(f, &a[0][0], 16);
}
static __global__ void never_rounded(real *)
{
    SHARED_MATRIX(real, a, 16, 8);
    for (int i = threadIdx.x; i < 128; i += 64) a[i / 8][i % 8] = .1f;
    __syncthreads();
    singles f;
    wmma::load_matrix_sync(f, &a[0][0], 8);
}
static __global__ void read_too_soon(real *x) /* of what the other lanes have not stored */
{
    SHARED_MATRIX(real, a, 16, 16);
    sums s;
    wmma::fill_fragment(s, 1);
    wmma::store_matrix_sync(&a[0][0], s, 16, wmma::mem_row_major);
    x[threadIdx.x] = a[threadIdx.x / 16][15 - threadIdx.x % 16];
}
static __global__ void never_filled(real *x)
{
    SHARED_MATRIX(real, a, 16, 16);
    singles f;
    columns g;
    sums s, t;
    wmma::fill_fragment(f, 0);
    wmma::fill_fragment(g, 0);
    wmma::mma_sync(s, f, g, t);
    wmma::store_matrix_sync(&a[0][0], s, 16, wmma::mem_row_major);
    __syncwarp();
    x[threadIdx.x] = a[threadIdx.x / 16][threadIdx.x % 16];
}

/* ---- order */
static __global__ void no_barrier(real *x)
{
    SHARED_ARRAY(real, some, 64);
    some[threadIdx.x] = (real)threadIdx.x;
    x[threadIdx.x] = some[63 - threadIdx.x];
}
static __global__ void reused_too_soon(real *x) /* block_sum without its first barrier */
{
    SHARED_ARRAY(real, sums, 2);
    for (int i = 0; i < 2; ++i) {
        const real sum = warp_sum((real)threadIdx.x + i);
        if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = sum;
        __syncthreads();
        x[i * 64 + threadIdx.x] = sums[0] + sums[1];
    }
}
static __global__ void last_block_wins(real *x) { x[0] = (real)blockIdx.x; }

/* ---- none */
static __global__ void votes(real *x)
{
    const unsigned all = 0xFFFFFFFFu;
    const int odd = threadIdx.x % 2;
    x[threadIdx.x] = (real)(__any_sync(all, odd) + 2 * __all_sync(all, odd) + 4 * __all_sync(all, 1));
    x[64 + threadIdx.x] = (real)(__ballot_sync(all, odd) == 0xAAAAAAAAu);
    x[128 + threadIdx.x] = __shfl_up_sync(all, (real)threadIdx.x, 1);
    x[192 + threadIdx.x] = __shfl_down_sync(all, (real)threadIdx.x, 3, 16);
    x[256 + threadIdx.x] = __shfl_sync(all, (real)threadIdx.x, 7);
    x[320 + threadIdx.x] = (real)warp_sum((double)threadIdx.x);
}

#define FAULT(name, blocks, threads, shared) \
    EXPORT void run_##name(real *x) { launch(#name, name, blocks, threads, shared, x); }
FAULT(half_waits, 3, 64, 0)
FAULT(some_have_ended, 1, 64, 0)
FAULT(two_barriers, 1, 64, 0)
FAULT(lane_stays_away, 1, 64, 0)
FAULT(not_in_its_mask, 1, 64, 0)
FAULT(from_who_takes_no_part, 1, 64, 0)
FAULT(beyond_shared, dim3(1, 2), 64, 0)
FAULT(before_shared, 1, 64, 0)
FAULT(beyond_row, 1, 64, 0)
FAULT(beyond_dynamic, 1, dim3(8, 8), 63 * sizeof(real))
FAULT(too_much_shared, 1, 64, 0)
FAULT(not_written, 1, 64, 0)
FAULT(reads_beyond, 1, 64, 0)
FAULT(writes_before, 1, 64, 0)
FAULT(reads_nothing, 1, 64, 0)
FAULT(writes_behind, 1, 64, 0)
FAULT(lane_has_no_share, 1, 64, 0)
FAULT(shares_of_two, 1, 64, 0)
FAULT(other_distances, 1, 64, 0)
FAULT(fragment_off_its_place, 1, 64, 0)
FAULT(rows_off_their_place, 1, 64, 0)
FAULT(fragment_beyond, 1, 64, 0)
FAULT(half_a_warp, 1, 48, 0)
FAULT(never_rounded, 1, 64, 0)
FAULT(read_too_soon, 1, 32, 0)
FAULT(never_filled, 1, 32, 0)
FAULT(no_barrier, 1, 64, 0)
FAULT(reused_too_soon, 1, 64, 0)
FAULT(last_block_wins, 5, 64, 0)
FAULT(votes, 1, 64, 0)
EXPORT void run_large_block(real *x) { launch("large_block", votes, 1, 2048, 0, x); }
EXPORT void run_no_grid(real *x) { launch("no_grid", votes, 0, 64, 0, x); }
EXPORT void run_much_dynamic(real *x) { launch("much_dynamic", votes, 1, 64, 49153, x); }

EXPORT unsigned quotient(int n, int d) { return divider(d).quotient((unsigned)n); }

EXPORT void *allocate(size_t bytes) { return dn_gpu_allocate(bytes); }
EXPORT void release(void *memory) { dn_gpu_release(memory); }
EXPORT void backwards(int on) { dn_gpu_set_backwards(on); }
EXPORT int status(void) { return dn_gpu_status(); }
EXPORT const char *last_error(void) { return dn_gpu_last_error(); }
EXPORT int synchronize(void) { return dn_gpu_synchronize(); }
EXPORT int push(void *to, const void *from, size_t bytes) { return dn_gpu_push(to, from, bytes); }
EXPORT int pull(void *to, const void *from, size_t bytes) { return dn_gpu_pull(to, from, bytes); }
