/* The loss of [iseg]; csrc/iseg_rules.h has the formulas. A block finds the mean of an instance; then a
 * thread has a value, which meets the instances in their order. */
#include "iseg_rules.h"
#include "kernels.cuh"

static __global__ void iseg_means_kernel(iseg_rules r, iseg_image first)
{
    const int i = blockIdx.x % ISEG_INSTANCES, own = threadIdx.x, pixels = iseg_pixels(&r);
    const iseg_image im = iseg_image_of(&r, &first, blockIdx.x / ISEG_INSTANCES);
    const int is_behind_end = block_sum((int)(own <= i && iseg_is_end(&im, own)));
    if (is_behind_end) {
        if (own == 0) im.sizes[i] = -1;
        return;
    }
    const real *mask = iseg_mask(&im, i);
    int size = 0;
    for (int k = own; k < pixels; k += BLOCK) size += mask[k] != 0;
    size = block_sum(size);
    if (own == 0) im.sizes[i] = size;
    for (int z = 0; z < r.ids; ++z) {
        const real *p = im.a.p + iseg_embedding_at(&r, z, 0);
        double sum = 0;
        for (int k = own; k < pixels; k += BLOCK) {
            if (mask[k] != 0) sum += p[k];
        }
        sum = block_sum(sum);
        if (own == 0) im.means[(size_t)i * r.ids + z] = iseg_mean(sum, size);
    }
}
/* The last instance of the class that has the pixel counts. */
static __device__ void pull_class(const iseg_image *im, int n, int c, int k)
{
    const size_t at = (size_t)c * iseg_pixels(im->r) + k;
    for (int i = n - 1; i >= 0; --i) {
        const real *mask = iseg_mask(im, i);
        if (iseg_class_of(im, i) != c || mask[k] == 0) continue;
        dn_pull_logit(&im->a, at, mask[k], 1);
        return;
    }
    iseg_pull_to_no_class(im, at);
}
static __device__ void pull_embedding(const iseg_image *im, int n, int z, int k)
{
    const int owners = iseg_owners(im, n, k);
    iseg_pull_to_zero(im, iseg_embedding_at(im->r, z, k));
    if (owners) iseg_pull_to_means(im, n, owners, z, k);
}
static __global__ void iseg_pull_kernel(size_t values, iseg_rules r, iseg_image first)
{
    GRID_STRIDE(v, values) {
        const iseg_image im = iseg_image_of(&r, &first, v / iseg_outputs(&r));
        const int channel = (int)(v % iseg_outputs(&r) / iseg_pixels(&r)), k = (int)(v % iseg_pixels(&r)),
                  n = iseg_count(&im);
        if (channel < r.classes)
            pull_class(&im, n, channel, k);
        else
            pull_embedding(&im, n, channel - r.classes, k);
    }
}
void iseg_train_gpu(const iseg_rules *r, const real *z, const real *p, const real *truth, real *means,
                    int *sizes, real *delta, real *loss)
{
    const iseg_image first = {NULL, {z, p, truth, delta, loss}, means, sizes};
    const size_t values = r->batch * iseg_outputs(r);
    LAUNCH_BLOCKS(iseg_means_kernel, r->batch * ISEG_INSTANCES, 0, *r, first);
    LAUNCH(iseg_pull_kernel, values, values, *r, first);
}
