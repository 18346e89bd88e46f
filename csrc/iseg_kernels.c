/* The loss of [iseg]; iseg_rules.h has the formulas. */
#include "iseg_rules.h"
#include "parallel.h"

static void find_mean(const iseg_image *im, int i)
{
    const real *mask = iseg_mask(im, i);
    const int pixels = iseg_pixels(im->r);
    int size = 0;
    for (int k = 0; k < pixels; ++k) size += mask[k] != 0;
    im->sizes[i] = size;
    for (int z = 0; z < im->r->ids; ++z) {
        const real *p = im->a.p + iseg_embedding_at(im->r, z, 0);
        double sum = 0;
        for (int k = 0; k < pixels; ++k) {
            if (mask[k] != 0) sum += p[k];
        }
        im->means[(size_t)i * im->r->ids + z] = iseg_mean(sum, size);
    }
}
static int find_means(const iseg_image *im)
{
    int n = 0;
    for (; n < ISEG_INSTANCES && !iseg_is_end(im, n); ++n) find_mean(im, n);
    for (int i = n; i < ISEG_INSTANCES; ++i) im->sizes[i] = -1;
    return n;
}
static void pull_classes(const iseg_image *im, int n)
{
    const int pixels = iseg_pixels(im->r);
    for (size_t at = 0; at < iseg_classes(im->r); ++at) iseg_pull_to_no_class(im, at);
    for (int i = 0; i < n; ++i) {
        const real *mask = iseg_mask(im, i);
        const size_t first = (size_t)iseg_class_of(im, i) * pixels;
        for (int k = 0; k < pixels; ++k) {
            if (mask[k] != 0) dn_pull_logit(&im->a, first + k, mask[k], 1);
        }
    }
}
static void pull_embeddings(const iseg_image *im, int n)
{
    for (size_t at = iseg_classes(im->r); at < iseg_outputs(im->r); ++at) iseg_pull_to_zero(im, at);
    for (int k = 0; k < iseg_pixels(im->r); ++k) {
        const int owners = iseg_owners(im, n, k);
        for (int z = 0; z < im->r->ids && owners; ++z) iseg_pull_to_means(im, n, owners, z, k);
    }
}
/* z and p, the head's input and output, and deltas are (batch, classes + ids, h, w); truth is (batch,
 * ISEG_INSTANCES, 1 + h * w), means (batch, ISEG_INSTANCES, ids) and sizes (batch, ISEG_INSTANCES). */
void iseg_train_cpu(const iseg_rules *r, const real *z, const real *p, const real *truth, real *means,
                    int *sizes, real *delta, real *loss)
{
    const iseg_image first = {r, {z, p, truth, delta, loss}, means, sizes};
    PARALLEL_FOR(r->batch * iseg_outputs(r))
    for (int b = 0; b < r->batch; ++b) {
        const iseg_image im = iseg_image_of(r, &first, b);
        const int n = find_means(&im);
        pull_classes(&im, n);
        pull_embeddings(&im, n);
    }
}
