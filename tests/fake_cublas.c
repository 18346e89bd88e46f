/* libcublasLt without a GPU: the functions of cuda/cublas.def on the host's memory, by plain loops in double
 * precision. It refuses descriptors that were not set, matrices that do not fit, an algorithm that it has not
 * proposed, and memory that is too little. What it is asked is counted; a test sets what it answers. */
#include "libraries.h"
#include <stdlib.h>
#include <string.h>
#ifndef VERSION
#define VERSION 131000
#endif
#define EXPORT __attribute__((visibility("default")))
enum { OK = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum { HANDLE = 11, PRODUCT, LAYOUT, PREFERENCE };

EXPORT int fake_choices, fake_products, fake_handles;           /* how often each was asked for */
EXPORT int fake_create_status, fake_choice_status, fake_status; /* what the next answers are */
EXPORT int fake_compute = 68;                                   /* the only compute type that it knows */
EXPORT int fake_offered = 4;                                    /* how many algorithms it has */
EXPORT size_t fake_last_workspace, fake_room;                   /* what it was given; what 2 wants */
EXPORT void fake_reset(void)
{
    fake_choices = fake_products = fake_handles = fake_create_status = fake_choice_status = fake_status = 0;
    fake_offered = 4;
    fake_compute = 68;
    fake_room = 1000;
}

typedef struct {
    int kind, compute, scale, transposed[2], type;
    uint64_t rows, columns, most_workspace;
    int64_t ld;
    uint32_t alignment[4];
} object;
static object *made(int kind, void **out)
{
    object *o = calloc(1, sizeof *o);
    o->kind = kind;
    o->transposed[0] = o->transposed[1] = o->compute = o->type = -1;
    return *out = o;
}
static int is(const void *p, int kind) { return p && ((const object *)p)->kind == kind; }

EXPORT size_t cublasLtGetVersion(void) { return VERSION; }
EXPORT const char *cublasLtGetStatusString(int s)
{
    return s == NOT_INITIALIZED ? "the library was not initialized"
           : s == INVALID_VALUE ? "an invalid value"
                                : "a fake failure";
}
#ifndef WITHOUT_HANDLES
EXPORT int cublasLtCreate(void **handle)
{
    ++fake_handles;
    made(HANDLE, handle);
    return fake_create_status;
}
#endif
EXPORT int cublasLtMatmulDescCreate(void **product, int compute_type, int scale_type)
{
    object *o = made(PRODUCT, product);
    o->compute = compute_type;
    o->scale = scale_type;
    return OK;
}
EXPORT int cublasLtMatmulDescSetAttribute(void *product, int attribute, const void *value, size_t bytes)
{
    if (!is(product, PRODUCT) || bytes != 4 || (attribute != 3 && attribute != 4)) return INVALID_VALUE;
    memcpy(&((object *)product)->transposed[attribute - 3], value, bytes);
    return OK;
}
EXPORT int cublasLtMatrixLayoutCreate(void **layout, int type, uint64_t rows, uint64_t columns, int64_t ld)
{
    object *o = made(LAYOUT, layout);
    o->type = type;
    o->rows = rows;
    o->columns = columns;
    o->ld = ld;
    return ld < (int64_t)rows ? INVALID_VALUE : OK;
}
EXPORT int cublasLtMatmulPreferenceCreate(void **preference) { return made(PREFERENCE, preference), OK; }
EXPORT int cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value,
                                                size_t bytes)
{
    object *o = preference;
    if (!is(preference, PREFERENCE)) return INVALID_VALUE;
    if (attribute == 1 && bytes == 8) return memcpy(&o->most_workspace, value, bytes), OK;
    if (attribute >= 5 && attribute <= 8 && bytes == 4)
        return memcpy(&o->alignment[attribute - 5], value, bytes), OK;
    return INVALID_VALUE;
}

/* Is it the product of column-major float32 matrices d (m, n) = op(a) op(b)? */
static int fits(const object *p, const object *a, const object *b, const object *c, const object *d)
{
    if (!is(p, PRODUCT) || !is(a, LAYOUT) || !is(b, LAYOUT) || !is(c, LAYOUT) || !is(d, LAYOUT)) return 0;
    const int ta = p->transposed[0], tb = p->transposed[1];
    if (p->compute != fake_compute) return 0;
    return !p->scale && !a->type && !b->type && !c->type && !d->type && ta >= 0 && tb >= 0 &&
           (ta ? a->columns : a->rows) == d->rows && (tb ? b->rows : b->columns) == d->columns &&
           (ta ? a->rows : a->columns) == (tb ? b->columns : b->rows) && c->rows == d->rows &&
           c->columns == d->columns && c->ld == d->ld;
}
/* The algorithms: 0 wants more workspace than is allowed, 1 fails, 2 and 3 will do. */
EXPORT int cublasLtMatmulAlgoGetHeuristic(void *handle, void *product, void *a, void *b, void *c, void *d,
                                          void *preference, int wanted, dn_cublas_choice *list, int *found)
{
    const object *limits = preference;
    ++fake_choices;
    if (!is(handle, HANDLE) || !is(preference, PREFERENCE) || !fits(product, a, b, c, d))
        return INVALID_VALUE;
    if (fake_choice_status) return fake_choice_status;
    const uint32_t alignment = limits->alignment[0];
    for (int i = 0; i < 4; ++i) {
        if ((alignment != 16 && alignment != 4) || limits->alignment[i] != alignment) return INVALID_VALUE;
    }
    const size_t room[] = {limits->most_workspace + 1, 64, fake_room, 0};
    for (*found = 0; *found < wanted && *found < fake_offered; ++*found) {
        dn_cublas_choice *one = &list[*found];
        memset(one, 0, sizeof *one);
        one->algorithm.data[0] = 100 + *found;
        one->algorithm.data[1] = alignment;
        one->workspace = room[*found];
        one->status = *found == 1 ? NOT_SUPPORTED : OK;
    }
    return OK;
}
EXPORT int cublasLtMatmul(void *handle, void *product, const void *alpha, const void *A, void *a,
                          const void *B, void *b, const void *beta, const void *C, void *c, void *D, void *d,
                          const dn_cublas_algorithm *algorithm, void *workspace, size_t bytes, void *stream)
{
    const object *p = product, *la = a, *lb = b, *ld = d;
    const float *x = A, *y = B, al = *(const float *)alpha, be = *(const float *)beta;
    float *z = D;
    (void)stream;
    ++fake_products;
    if (!is(handle, HANDLE) || !fits(p, la, lb, c, ld) || C != D) return INVALID_VALUE;
    if (algorithm->data[0] != 102 && algorithm->data[0] != 103) return EXECUTION_FAILED;
    if (algorithm->data[0] == 102 && bytes < fake_room) return EXECUTION_FAILED;
    if (((uintptr_t)A | (uintptr_t)B | (uintptr_t)D) % algorithm->data[1]) return INVALID_VALUE;
    if (fake_status) return fake_status;
    if (bytes) memset(workspace, 0xFF, bytes);
    fake_last_workspace = bytes;
    const uint64_t depth = p->transposed[0] ? la->rows : la->columns;
    for (uint64_t j = 0; j < ld->columns; ++j) {
        for (uint64_t i = 0; i < ld->rows; ++i) {
            double sum = 0;
            for (uint64_t k = 0; k < depth; ++k) {
                const float u = p->transposed[0] ? x[i * la->ld + k] : x[k * la->ld + i];
                const float v = p->transposed[1] ? y[k * lb->ld + j] : y[j * lb->ld + k];
                sum += (double)u * v;
            }
            float *to = &z[j * ld->ld + i];
            *to = (float)(al * sum + (be == 0 ? 0 : be * (double)*to));
        }
    }
    return OK;
}
