/* Activations over arrays. The formulas stand in scalar.h; the three normalize_channels* mix the channels of
 * a pixel and stand here. */
#include "parallel.h"
#include "rows.h"
#include "scalar.h"
#include <assert.h>

MULTIVERSION void activate_row(real *x, int n, ACTIVATION a)
{
    switch (a) {
#define CASE(ID, name) \
    case ID: \
        for (int i = 0; i < n; ++i) x[i] = name##_activate(x[i]); \
        return;
    EACH_FORMULA(CASE)
    EACH_INPUT_FORMULA(CASE)
#undef CASE
    default: return;
    }
}

MULTIVERSION void gradient_row(const real *y, int n, ACTIVATION a, real *delta)
{
    switch (a) {
#define CASE(ID, name) \
    case ID: \
        for (int i = 0; i < n; ++i) delta[i] *= name##_gradient(y[i]); \
        return;
    EACH_FORMULA(CASE)
#undef CASE
    default: return;
    }
}

MULTIVERSION void gradient_input_row(const real *x, int n, ACTIVATION a, real *delta)
{
    switch (a) {
#define CASE(ID, name) \
    case ID: \
        for (int i = 0; i < n; ++i) delta[i] *= name##_gradient(x[i]); \
        return;
    EACH_INPUT_FORMULA(CASE)
#undef CASE
    default: return;
    }
}

/* The arrays are cut into pieces of fixed size, one call of the row functions each. */
enum { PIECE = 4096 };
#define EACH_PIECE(call) \
    PARALLEL_FOR(n) \
    for (int64_t at = 0; at < n; at += PIECE) { \
        const int count = n - at < PIECE ? (int)(n - at) : PIECE; \
        call; \
    }

/* In place: x[i] -> f(x[i]). */
void activate_array(real *x, int n, ACTIVATION a)
{
    if (a == LINEAR) return;
    EACH_PIECE(activate_row(x + at, count, a))
}
/* delta[i] *= f'(x[i]), from the output y = f(x): Darknet's convention. For the activations whose output
 * tells the slope. */
void gradient_array(const real *y, int n, ACTIVATION a, real *delta)
{
    assert(!activation_needs_input(a));
    if (a == LINEAR) return;
    EACH_PIECE(gradient_row(y + at, count, a, delta + at))
}
/* delta[i] *= f'(x[i]), from the input x: gelu, swish, mish, hard_mish. */
void gradient_input_array(const real *x, int n, ACTIVATION a, real *delta)
{
    assert(activation_needs_input(a) && !activation_mixes_channels(a));
    EACH_PIECE(gradient_input_row(x + at, count, a, delta + at))
}

/* ---- normalize_channels*: y[c] = r(x[c]) / (sum over channels of r + 1e-4) at every pixel; r is relu, exp,
 * or exp(x - max). AlexeyAB: activate_array_normalize_channels and its softmax twin. */
static real channels_shift(const real *x, int channels, int spatial, ACTIVATION a)
{
    if (a != NORM_CHAN_SOFTMAX_MAXVAL) return 0;
    real most = x[0];
    for (int c = 1; c < channels; ++c) {
        if (x[(size_t)c * spatial] > most) most = x[(size_t)c * spatial];
    }
    return most;
}
static real channels_term(real x, real shift, ACTIVATION a)
{
    return a == NORM_CHAN ? relu_activate(x) : exp(x - shift);
}
static real channels_sum(const real *x, int channels, int spatial, real shift, ACTIVATION a)
{
    real sum = CHANNELS_EPSILON;
    for (int c = 0; c < channels; ++c) sum += channels_term(x[(size_t)c * spatial], shift, a);
    return sum;
}

/* y may be x. */
void activate_channels_cpu(const real *x, int batch, int channels, int spatial, ACTIVATION a, real *y)
{
    assert(activation_mixes_channels(a));
    PARALLEL_FOR2((size_t)batch * channels * spatial)
    for (int b = 0; b < batch; ++b) {
        for (int i = 0; i < spatial; ++i) {
            const size_t at = (size_t)b * channels * spatial + i;
            const real shift = channels_shift(x + at, channels, spatial, a);
            const real sum = channels_sum(x + at, channels, spatial, shift, a);
            for (int c = 0; c < channels; ++c) {
                const size_t j = at + (size_t)c * spatial;
                y[j] = channels_term(x[j], shift, a) / sum;
            }
        }
    }
}

/* In place: delta at y -> delta at x. With s = sum + epsilon and dot = sum over channels of y dy:
 *   relu          dx = [x > 0] (dy - dot) / s
 *   exp           dx = y (dy - dot)
 *   exp(x - max)  the same; the shift cancels but for epsilon, so the largest x gets -dot epsilon / s
 * besides. */
void gradient_channels_cpu(const real *x, const real *y, int batch, int channels, int spatial, ACTIVATION a,
                           real *delta)
{
    assert(activation_mixes_channels(a));
    PARALLEL_FOR2((size_t)batch * channels * spatial)
    for (int b = 0; b < batch; ++b) {
        for (int i = 0; i < spatial; ++i) {
            const size_t at = (size_t)b * channels * spatial + i;
            const real shift = channels_shift(x + at, channels, spatial, a);
            const real sum = channels_sum(x + at, channels, spatial, shift, a);
            real dot = 0;
            for (int c = 0; c < channels; ++c) {
                dot += y[at + (size_t)c * spatial] * delta[at + (size_t)c * spatial];
            }
            int open = a == NORM_CHAN_SOFTMAX_MAXVAL;   /* the first largest x moves the shift */
            for (int c = 0; c < channels; ++c) {
                const size_t j = at + (size_t)c * spatial;
                const real slope = a == NORM_CHAN ? (x[j] > 0) / sum : y[j];
                delta[j] = slope * (delta[j] - dot);
                if (open && x[j] == shift) {
                    delta[j] -= dot * CHANNELS_EPSILON / sum;
                    open = 0;
                }
            }
        }
    }
}
