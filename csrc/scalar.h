/* The formula of every activation and the constants of the kernels, each in one place: gcc and nvcc compile
 * this file. <tgmath.h> (in C++: the overloads of <math.h>) picks sqrtf or sqrt by the type of its
 * argument. */
#ifndef DN_SCALAR_H
#define DN_SCALAR_H
#include "elementary.h"

/* ---- batch normalization (arXiv:1502.03167, Algorithm 1: epsilon inside the root) */
#define BN_EPSILON ((real)1e-5)
#define BN_EPSILON_PJREDDIE ((real)1e-6)    /* outside the root, as his CPU forward has it */
SCALAR real bn_inverse_std(real variance) { return 1 / sqrt(variance + BN_EPSILON); }
SCALAR real bn_normalize(real x, real mean, real inverse_std) { return (x - mean) * inverse_std; }

/* ---- limits */
SCALAR int min_int(int a, int b) { return a < b ? a : b; }
SCALAR int max_int(int a, int b) { return a > b ? a : b; }
SCALAR real clipped(real x, real most) { return x > most ? most : x < -most ? -most : x; }

/* ---- activations: y = f(x) */
SCALAR real logistic_activate(real x) { return 1 / (1 + exp_of(-x)); }
SCALAR real loggy_activate(real x) { return 2 / (1 + exp_of(-x)) - 1; }
SCALAR real relu_activate(real x) { return x < 0 ? 0 : x; }   /* NaN stays NaN, so that it is noticed */
SCALAR real relu6_activate(real x) { return x > 6 ? 6 : x < 0 ? 0 : x; }
SCALAR real elu_activate(real x) { return x >= 0 ? x : expm1(x); }
#define SELU_SCALE ((real)1.0507)           /* Darknet's digits */
#define SELU_ALPHA ((real)1.6732)
SCALAR real selu_activate(real x) { return x >= 0 ? SELU_SCALE * x : SELU_SCALE * SELU_ALPHA * expm1(x); }
SCALAR real relie_activate(real x) { return x > 0 ? x : (real).01 * x; }
SCALAR real ramp_activate(real x) { return (x > 0 ? x : 0) + (real).1 * x; }
SCALAR real leaky_activate(real x) { return x > 0 ? x : (real).1 * x; }
SCALAR real tanh_activate(real x) { return tanh_of(x); }
SCALAR real plse_activate(real x)
{
    return x < -4 ? (real).01 * (x + 4) : x > 4 ? (real).01 * (x - 4) + 1 : (real).125 * x + (real).5;
}
SCALAR real stair_activate(real x)
{
    const real n = floor(x), half = floor(x / 2);
    return n == 2 * floor(n / 2) ? half : (x - n) + half;   /* flat over even steps, rising over odd ones */
}
SCALAR real hardtan_activate(real x) { return x < -1 ? -1 : x > 1 ? 1 : x; }
SCALAR real lhtan_activate(real x) { return x < 0 ? (real).001 * x : x > 1 ? (real).001 * (x - 1) + 1 : x; }
#define GELU_A ((real)0.797885)             /* sqrt(2/pi), and that times .044715, in Darknet's digits */
#define GELU_B ((real)0.035677)
/* x (1 + tanh(u)) / 2 with u = A x + B x^3, written as x / (1 + exp(-2 u)): no digits are lost where tanh(u)
 * is near -1. */
SCALAR real gelu_sigmoid(real x) { return logistic_activate(2 * x * (GELU_A + GELU_B * x * x)); }
SCALAR real gelu_activate(real x) { return x * gelu_sigmoid(x); }
SCALAR real swish_activate(real x) { return x * logistic_activate(x); }
/* tanh(log(1 + e^x)) without the logarithm; from 20 on it is 1 to the last digit. */
SCALAR real mish_tanh(real x)
{
    const real e = exp_of(x < 20 ? x : 20), w = e * (e + 2);
    return w / (w + 2);
}
SCALAR real mish_activate(real x) { return x * mish_tanh(x); }
SCALAR real hard_mish_activate(real x) { return x > 0 ? x : x > -2 ? x * x / 2 + x : 0; }

/* ---- their derivatives from the output y, where y determines them */
SCALAR real logistic_gradient(real y) { return (1 - y) * y; }
SCALAR real loggy_gradient(real y) { return (1 - y) * (1 + y) / 2; }
SCALAR real relu_gradient(real y) { return y > 0; }
SCALAR real relu6_gradient(real y) { return y > 0 && y < 6; }
SCALAR real elu_gradient(real y) { return y >= 0 ? 1 : y + 1; }
SCALAR real selu_gradient(real y) { return y >= 0 ? SELU_SCALE : y + SELU_SCALE * SELU_ALPHA; }
SCALAR real relie_gradient(real y) { return y > 0 ? 1 : (real).01; }
SCALAR real ramp_gradient(real y) { return (y > 0) + (real).1; }
SCALAR real leaky_gradient(real y) { return y > 0 ? 1 : (real).1; }
SCALAR real tanh_gradient(real y) { return (1 - y) * (1 + y); }
SCALAR real plse_gradient(real y) { return y < 0 || y > 1 ? (real).01 : (real).125; }
SCALAR real stair_gradient(real y) { return floor(y) == y ? 0 : 1; }
SCALAR real hardtan_gradient(real y) { return y > -1 && y < 1; }
SCALAR real lhtan_gradient(real y) { return y > 0 && y < 1 ? 1 : (real).001; }

/* ---- and from the input x, where only x does */
SCALAR real gelu_gradient(real x)
{
    const real s = gelu_sigmoid(x);
    return s + 2 * x * s * gelu_sigmoid(-x) * (GELU_A + 3 * GELU_B * x * x);
}
SCALAR real swish_gradient(real x)
{
    const real s = logistic_activate(x);
    return s + x * s * (1 - s);
}
SCALAR real mish_gradient(real x)
{
    const real t = mish_tanh(x);
    return t + x * (1 - t * t) * logistic_activate(x);
}
SCALAR real hard_mish_gradient(real x) { return x > 0 ? 1 : x > -2 ? x + 1 : 0; }
SCALAR real linear_gradient(real y) { (void)y; return 1; }
SCALAR real linear_activate(real x) { return x; }
SCALAR real revleaky_activate(real x) { return leaky_activate(x); }
SCALAR real revleaky_gradient(real y) { return leaky_gradient(y); }

/* The activations by their formulas' names: those whose output tells the slope, then those whose input
 * does. */
#define EACH_FORMULA(CASE) \
    CASE(LOGISTIC, logistic) CASE(LOGGY, loggy) CASE(RELU, relu) CASE(RELU6, relu6) CASE(ELU, elu) \
    CASE(SELU, selu) CASE(RELIE, relie) CASE(RAMP, ramp) CASE(LEAKY, leaky) CASE(REVLEAKY, revleaky) \
    CASE(TANH, tanh) CASE(PLSE, plse) CASE(STAIR, stair) CASE(HARDTAN, hardtan) CASE(LHTAN, lhtan)
#define EACH_INPUT_FORMULA(CASE) \
    CASE(GELU, gelu) CASE(SWISH, swish) CASE(MISH, mish) CASE(HARD_MISH, hard_mish)

/* gelu, swish and the mishes rise and fall, so their output does not tell the slope; normalize_channels* mix
 * channels. */
SCALAR int activation_needs_input(ACTIVATION a) { return a >= GELU; }
/* Does working out y = f(x) again cost less than keeping it? Those without an exponential. */
SCALAR int activation_is_cheap(ACTIVATION a)
{
    return a != LOGISTIC && a != LOGGY && a != ELU && a != SELU && a != TANH && !activation_needs_input(a);
}
SCALAR int activation_mixes_channels(ACTIVATION a) { return a >= NORM_CHAN; }

/* ---- what keeps a quotient finite */
#define CHANNELS_EPSILON ((real)1e-4)       /* normalize_channels* */
#define MIX_EPSILON ((real)1e-4)            /* normalized weights of a sum */

/* The cells, of so many, that an interval in shares of the image touches: box_begins to before box_ends. */
SCALAR int within_cells(real cell, int cells) { return (int)(cell > 0 ? (cell < cells ? cell : cells) : 0); }
SCALAR int box_begins(real center, real side, int cells)
{
    return within_cells(floor((center - side / 2) * cells), cells);
}
SCALAR int box_ends(real center, real side, int cells)
{
    return within_cells(ceil((center + side / 2) * cells), cells);
}
#endif
