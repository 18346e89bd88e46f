/* Labels and loss of [contrastive]; csrc/contrastive_rules.h has the formulas. The samples, of which only the
 * device knows how many there are, are listed by one block; then a block has a sample, and adds to its delta
 * both what its own loss says of a cosine and what the other one's says. */
#include "contrastive_rules.h"
#include "heads.cuh"

static __global__ void contrastive_label_boxes_kernel(yolo_rules r, const real *truth, real *labels,
                                                      real *kinds)
{
    const size_t b = blockIdx.x, places = (size_t)r.slots * yolo_area(&r);
    const real *rows = truth + b * r.max * yolo_truth_size(&r);
    const int n = dn_count_rows(rows, r.max, yolo_truth_size(&r));
    contrastive_label_image(&r, rows, n, threadIdx.x, BLOCK, labels + b * places, kinds + b * places);
}
void contrastive_label_boxes_gpu(const yolo_rules *rules, const real *truth, real *labels, real *kinds)
{
    yolo_rules r = *rules;
    if (!lists_to_device(&r)) return;
    LAUNCH_BLOCKS(contrastive_label_boxes_kernel, r.batch, 0, r, truth, labels, kinds);
}
static __global__ void contrastive_label_images_kernel(int batch, int classes, const real *truth,
                                                       real *labels)
{
    GRID_STRIDE(b, batch) labels[b] = contrastive_label_of(truth + b * classes, classes, (int)b);
}
void contrastive_label_images_gpu(int batch, int classes, const real *truth, real *labels)
{
    LAUNCH(contrastive_label_images_kernel, batch, batch, classes, truth, labels);
}

/* The samples at work, as on the CPU; ends: how far the others of each go that count. */
struct samples_at_work {
    contrastive_rules r;
    const real *z, *labels, *kinds;
    int *n, *samples, *ends;
    real *unit, *inverse, *delta, *loss;
    contrastive_sums *sums;
};
/* A thread has as many places as each other, one behind the other. */
static __global__ void list_samples_kernel(samples_at_work w)
{
    SHARED_ARRAY(int, counts, BLOCK);
    const int places = contrastive_places(&w.r), each = (places + BLOCK - 1) / BLOCK,
              begin = min_int(threadIdx.x * each, places), end = min_int(begin + each, places);
    int count = 0, at = 0;
    for (int p = begin; p < end; ++p) count += w.labels[p] >= 0;
    counts[threadIdx.x] = count;
    __syncthreads();
    for (int i = 0; i < (int)threadIdx.x; ++i) at += counts[i];
    for (int p = begin; p < end; ++p) {
        if (w.labels[p] >= 0) w.samples[at++] = p;
    }
    if (threadIdx.x == BLOCK - 1) *w.n = at;
}
static __global__ void find_directions_kernel(samples_at_work w)
{
    for (int i = blockIdx.x; i < *w.n; i += gridDim.x) {
        const real *from = w.z + contrastive_first_value(&w.r, w.samples[i]);
        double squares = 0;
        for (int e = threadIdx.x; e < w.r.size; e += BLOCK) {
            const double value = from[(size_t)e * w.r.cells];
            squares += value * value;
        }
        const real inverse = contrastive_inverse(block_sum(squares));
        for (int e = threadIdx.x; e < w.r.size; e += BLOCK) {
            w.unit[(size_t)i * w.r.size + e] = from[(size_t)e * w.r.cells] * inverse;
        }
        if (threadIdx.x == 0) w.inverse[i] = inverse;
    }
}
static __device__ real cosine(const samples_at_work *w, int i, int j)
{
    const size_t size = w->r.size;
    return contrastive_cosine(w->unit + i * size, w->unit + j * size, (int)size);
}
enum { APART, ALIKE, OTHER };
static __device__ int relation(const samples_at_work *w, int i, int j)
{
    const int p = w->samples[i], q = w->samples[j];
    if (j == i || w->kinds[p] != w->kinds[q]) return APART;
    return w->labels[p] == w->labels[q] ? ALIKE : OTHER;
}
/* One behind the last sample that counts as one of i's others. */
static __device__ int find_end(const samples_at_work *w, int i, int n)
{
    SHARED_ARRAY(int, others, BLOCK);
    SHARED_ARRAY(int, end, 1);
    int before = 0;
    __syncthreads();
    if (threadIdx.x == 0) end[0] = w->r.most ? n : 0;
    for (int first = 0; first < n && before < w->r.most; first += BLOCK) {
        const int j = first + threadIdx.x;
        others[threadIdx.x] = j < n && relation(w, i, j) == OTHER;
        __syncthreads();
        int rank = before;
        for (int k = 0; k < (int)threadIdx.x; ++k) rank += others[k];
        if (others[threadIdx.x] && rank == w->r.most - 1) end[0] = j + 1;
        before += block_sum((int)others[threadIdx.x]);
        __syncthreads();
    }
    __syncthreads();
    return end[0];
}
static __global__ void find_sums_kernel(samples_at_work w)
{
    const int n = *w.n;
    for (int i = blockIdx.x; i < n; i += gridDim.x) {
        const int end = find_end(&w, i, n);
        contrastive_sums s = {-1, 0, 0, 0};
        int others = 0;
        double sum = 0, pulled = 0, loss = 0;
        for (int j = threadIdx.x; j < n; j += BLOCK) {
            const int kind = relation(&w, i, j);
            s.same += kind == ALIKE;
            if (kind != OTHER || j >= end) continue;
            s.most = fmax(s.most, cosine(&w, i, j));
            ++others;
        }
        s.most = block_largest(s.most);
        s.same = block_sum(s.same);
        others = block_sum(others);
        for (int j = threadIdx.x; j < end; j += BLOCK) {
            if (relation(&w, i, j) == OTHER) sum += contrastive_term(&w.r, s.most, cosine(&w, i, j));
        }
        s.sum = (real)block_sum(sum);
        for (int j = threadIdx.x; j < n && others; j += BLOCK) {
            if (relation(&w, i, j) != ALIKE) continue;
            pulled += contrastive_share(&w.r, &s, cosine(&w, i, j));
            loss += contrastive_loss(&w.r, &s, cosine(&w, i, j));
        }
        s.pulled = (real)block_sum(pulled);
        loss = block_sum(loss);
        if (threadIdx.x) continue;
        if (!others) s.same = 0;
        w.sums[i] = s;
        w.ends[i] = end;
        w.loss[contrastive_first_value(&w.r, w.samples[i])] = (real)loss;
    }
}
/* -d loss of i / d cosine(i, j) */
static __device__ real pull_of(const samples_at_work *w, int i, int j, real between)
{
    const contrastive_sums s = w->sums[i];
    const int kind = relation(w, i, j);
    if (!s.same || kind == APART || (kind == OTHER && j >= w->ends[i])) return 0;
    return kind == OTHER ? contrastive_push(&w->r, &s, between)
                         : contrastive_share(&w->r, &s, between) / w->r.temperature;
}
static __global__ void pull_samples_kernel(samples_at_work w)
{
    SHARED_ARRAY(real, pulls, BLOCK);
    SHARED_ARRAY(real, cosines, BLOCK);
    const int n = *w.n, size = w.r.size;
    for (int i = blockIdx.x; i < n; i += gridDim.x) {
        real *delta = w.delta + contrastive_first_value(&w.r, w.samples[i]);
        const real *own = w.unit + (size_t)i * size, inverse = w.inverse[i];
        for (int first = 0; first < n; first += BLOCK) {
            const int j = first + threadIdx.x, count = min_int(BLOCK, n - first);
            __syncthreads(); /* those of the samples before may still be read */
            if (j < n) {
                const real between = cosine(&w, i, j);
                cosines[threadIdx.x] = between;
                pulls[threadIdx.x] = pull_of(&w, i, j, between) + pull_of(&w, j, i, between);
            }
            __syncthreads();
            for (int e = threadIdx.x; e < size; e += BLOCK) {
                const real *other = w.unit + (size_t)first * size + e;
                real sum = 0;
                for (int k = 0; k < count; ++k) {
                    if (pulls[k] == 0) continue;
                    sum += contrastive_slope(pulls[k], inverse, cosines[k], own[e], other[(size_t)k * size]);
                }
                delta[(size_t)e * w.r.cells] += sum;
            }
        }
        for (int e = threadIdx.x; e < size; e += BLOCK) {
            real *to = delta + (size_t)e * w.r.cells;
            *to = contrastive_limited(*to, w.r.max_delta);
        }
    }
}
void contrastive_train_gpu(const contrastive_rules *r, const real *z, const real *labels, const real *kinds,
                           int *samples, int *partners, real *delta, real *loss, real *workspace)
{
    const int places = contrastive_places(r), blocks = min_int(places, 4096);
    int *n = (int *)scratch(FOR_KERNEL, sizeof(int));
    contrastive_sums *sums = (contrastive_sums *)scratch(FOR_SUMS, places * sizeof(contrastive_sums));
    if (!n || !sums) return;
    real *inverse = workspace + (size_t)places * r->size;
    const samples_at_work w = {*r,       z,         labels,  kinds, n,    samples,
                               partners, workspace, inverse, delta, loss, sums};
    LAUNCH_BLOCKS(list_samples_kernel, 1, 0, w);
    LAUNCH_BLOCKS(find_directions_kernel, blocks, 0, w);
    LAUNCH_BLOCKS(find_sums_kernel, blocks, 0, w);
    LAUNCH_BLOCKS(pull_samples_kernel, blocks, 0, w);
}
