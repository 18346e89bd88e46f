/* Any activation of one value, by the formulas of scalar.h. Those that most networks have come first. */
#ifndef DN_ACTIVATIONS_CUH
#define DN_ACTIVATIONS_CUH
#include "kernels.cuh"

static __device__ __forceinline__ real activate(real x, ACTIVATION a)
{
    if (a == LINEAR) return x;
    if (a == LEAKY) return leaky_activate(x);
    if (a == RELU) return relu_activate(x);
    switch (a) {
#define CASE(ID, name) \
    case ID: return name##_activate(x);
        EACH_FORMULA(CASE)
        EACH_INPUT_FORMULA(CASE)
#undef CASE
    default: return x;
    }
}
/* f'(x) from y = f(x) */
static __device__ __forceinline__ real slope_of_output(real y, ACTIVATION a)
{
    if (a == LINEAR) return 1;
    if (a == LEAKY) return leaky_gradient(y);
    if (a == RELU) return relu_gradient(y);
    switch (a) {
#define CASE(ID, name) \
    case ID: return name##_gradient(y);
        EACH_FORMULA(CASE)
#undef CASE
    default: return 1;
    }
}
/* f'(x) of those whose output does not tell it */
static __device__ __forceinline__ real slope_of_input(real x, ACTIVATION a)
{
    switch (a) {
#define CASE(ID, name) \
    case ID: return name##_gradient(x);
        EACH_INPUT_FORMULA(CASE)
#undef CASE
    default: return 1;
    }
}
/* f'(x) of all of them */
static __device__ __forceinline__ real slope(real x, ACTIVATION a)
{
    return activation_needs_input(a) ? slope_of_input(x, a) : slope_of_output(activate(x, a), a);
}
#endif
