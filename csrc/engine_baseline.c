/* The engine for any processor (x86-64: SSE2), and for the float64 twin. */
#define VEC_BYTES 16
#include "engine_body.h"

ENGINE(baseline);
