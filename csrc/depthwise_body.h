/* One filter per channel: too little work per column for a matrix product. All taps of a vector of outputs are summed in
 * registers, straight from the image. Body of an engine. */
#include "gradient_body.h"

/* Values p[0], p[stride], ... p[(LANES - 1) * stride]; stride 1, or 2 (reads one more value, which must exist). */
INLINE vec load_strided(const real *p, int stride) { return stride == 1 ? load(p) : EVEN_LANES(load(p), load(p + LANES)); }

/* Outputs from .. upto of an axis read inside the image whatever the tap; `extra` values beyond the last may be read too. */
static void inner_outputs(const conv_axis *a, int extra, int *from, int *upto)
{
    const int last = a->first + (a->taps - 1) * a->step, low = a->step < 0 ? last : a->first, high = a->step < 0 ? a->first : last;
    *from = at_most(first_output(a->stride, low, 0), a->out);
    *upto = at_most(first_output(a->stride, high, a->in - extra), a->out);
}

/* Rows of the kernel that meet the image for output row i: taps from .. upto. */
static void live_taps(const conv_axis *a, int i, int *from, int *upto)
{
    *from = 0;
    *upto = a->taps;
    while (*from < *upto && (unsigned)(i * a->stride + a->first + *from * a->step) >= (unsigned)a->in) ++*from;
    while (*upto > *from && (unsigned)(i * a->stride + a->first + (*upto - 1) * a->step) >= (unsigned)a->in) --*upto;
}
