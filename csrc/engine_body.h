/* The whole engine, for the processors that the including file has chosen. */
#include <omp.h>
#include "matrix_body.h"

#define ENGINE(level) const engine engine_##level = {.name = #level, .product = product, .gradient = gradient, .matrix = matrix}
