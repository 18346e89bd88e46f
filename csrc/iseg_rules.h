/* Instances, means and pulls of [iseg], of one image; iseg_layer.c has the losses in words. gcc and nvcc
 * compile this file. */
#ifndef DN_ISEG_RULES_H
#define DN_ISEG_RULES_H
#include "pull.h"
#include "scalar.h"

enum { ISEG_INSTANCES = 90 };
/* One image at work. sizes (ISEG_INSTANCES): each instance's pixels, 0: it is empty, -1: there are no more;
 * means (ISEG_INSTANCES, ids). */
typedef struct {
    const iseg_rules *r;
    head_image a;
    real *means;
    int *sizes;
} iseg_image;

SCALAR int iseg_pixels(const iseg_rules *r) { return r->h * r->w; }
SCALAR size_t iseg_classes(const iseg_rules *r) { return (size_t)r->classes * iseg_pixels(r); }
SCALAR size_t iseg_outputs(const iseg_rules *r) { return (size_t)(r->classes + r->ids) * iseg_pixels(r); }
/* Image b, given the first. */
SCALAR iseg_image iseg_image_of(const iseg_rules *r, const iseg_image *first, size_t b)
{
    const size_t rows = b * ISEG_INSTANCES;
    return (iseg_image){r, dn_image_at(&first->a, b * iseg_outputs(r), rows * (iseg_pixels(r) + 1)),
                        first->means + rows * r->ids, first->sizes + rows};
}
SCALAR size_t iseg_embedding_at(const iseg_rules *r, int z, int k)
{
    return iseg_classes(r) + (size_t)z * iseg_pixels(r) + k;
}

/* ---- instances */
SCALAR const real *iseg_row(const iseg_rules *r, const real *truth, int i)
{
    return truth + (size_t)i * (iseg_pixels(r) + 1);
}
SCALAR int iseg_class_of(const iseg_image *im, int i) { return (int)iseg_row(im->r, im->a.truth, i)[0]; }
SCALAR int iseg_is_end(const iseg_image *im, int i) { return !(iseg_row(im->r, im->a.truth, i)[0] >= 0); }
SCALAR const real *iseg_mask(const iseg_image *im, int i) { return iseg_row(im->r, im->a.truth, i) + 1; }
SCALAR int iseg_count(const iseg_image *im)
{
    int n = 0;
    while (n < ISEG_INSTANCES && im->sizes[n] >= 0) ++n;
    return n;
}
SCALAR real iseg_mean(double sum, int size) { return size ? (real)(sum / size) : 0; }
/* How many instances pixel k belongs to. */
SCALAR int iseg_owners(const iseg_image *im, int n, int k)
{
    int owners = 0;
    for (int i = 0; i < n; ++i) owners += iseg_mask(im, i)[k] != 0;
    return owners;
}

/* ---- pulls */
/* Before any instance: no class, and a small embedding. */
SCALAR void iseg_pull_to_no_class(const iseg_image *im, size_t at) { dn_pull_logit(&im->a, at, 0, 1); }
SCALAR void iseg_pull_to_zero(const iseg_image *im, size_t at) { dn_pull_value(&im->a, at, 0, (real).001); }
/* Value z of pixel k, with each of its owners: towards that one's mean, away from the others'. */
SCALAR void iseg_pull_to_means(const iseg_image *im, int n, int owners, int z, int k)
{
    const size_t at = iseg_embedding_at(im->r, z, k);
    const real p = im->a.p[at];
    real delta = im->a.delta[at], loss = im->a.loss[at];
    int owner = 0; /* whose mean comes next */
    for (int j = 0; j < n; ++j) {
        if (im->sizes[j] == 0) continue;
        const int is_owner = iseg_mask(im, j)[k] != 0;
        const real d = im->means[(size_t)j * im->r->ids + z] - p;
        for (int i = 0; i < owners; ++i) {
            const real pull = is_owner && i == owner ? (real).001 : (real)-.001;
            delta += d < 0 ? -pull : pull;
            loss += pull * (d < 0 ? -d : d);
        }
        owner += is_owner;
    }
    im->a.delta[at] = delta;
    im->a.loss[at] = loss;
}
#endif
