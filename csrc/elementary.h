/* e^x and tanh x by polynomials instead of the library's functions: loops over them become vector code.
 * Floats only, within 2 units of the last digit; doubles and CUDA have their own. The coefficients are
 * Cephes's (expf.c, tanhf.c of S. L. Moshier). */
#ifndef DN_ELEMENTARY_H
#define DN_ELEMENTARY_H
#include "darknet.h"
#ifdef __cplusplus
#include <math.h>
#else
#include <tgmath.h>
#endif

#if defined(__CUDACC__) || defined(DARKNET_DOUBLE)
SCALAR real exp_of(real x) { return exp(x); }
SCALAR real tanh_of(real x) { return tanh(x); }
#else
#include <stdint.h>
#include <string.h>

/* 2^n, n in -126..127: a float's exponent is bits 23 to 30. */
SCALAR float power_of_2(int32_t n)
{
    const int32_t bits = (n + 127) * (1 << 23);
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}
/* x = n log 2 + r with n whole and |r| <= log(2) / 2; e^x = e^r 2^n. log 2 is two numbers, the first so short
 * that n times it is exact; 2^n is two factors, so that e^x may be infinite or denormal. */
SCALAR float exp_of(float x)
{
    x = x > 89 ? 89 : x < -104 ? -104 : x; /* NaN stays NaN */
    const float shift = 12582912;          /* 1.5 * 2^23: the sum has no digits behind the point */
    const float n = (x * 1.44269504f + shift) - shift, r = (x - n * .693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const int32_t whole = n == n ? (int32_t)n : 0, half = whole / 2;
    return (p * r * r + r + 1) * power_of_2(half) * power_of_2(whole - half);
}
/* Near 0 an odd polynomial, which keeps all digits; elsewhere 1 - 2 / (e^2x + 1). */
SCALAR float tanh_of(float x)
{
    const float z = x * x, far = 1 - 2 / (exp_of(2 * fabsf(x)) + 1);
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    return fabsf(x) < .625f ? x + x * z * p : copysignf(far, x);
}
#endif
#endif
