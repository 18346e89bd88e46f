#include "dilation.h"
#include "parallel.h"

/* A row of the map and the d rows that it comes apart into, `apart` values from one to the next. Neighbours
 * taken together become vector code. */
MULTIVERSION static void take_row(const real *restrict row, int n, int d, size_t apart, real *restrict parts)
{
    if (d == 2) {
        real *restrict odd = parts + apart;
        for (int i = 0; i < n; ++i) parts[i] = row[2 * i], odd[i] = row[2 * i + 1];
        return;
    }
    for (int j = 0; j < d; ++j)
        for (int i = 0; i < n; ++i) parts[j * apart + i] = row[(size_t)i * d + j];
}
MULTIVERSION static void put_row(const real *restrict parts, int n, int d, size_t apart, int add,
                                 real *restrict row)
{
    if (d == 2 && !add) {
        const real *restrict odd = parts + apart;
        for (int i = 0; i < n; ++i) row[2 * i] = parts[i], row[2 * i + 1] = odd[i];
        return;
    }
    for (int j = 0; j < d; ++j)
        for (int i = 0; i < n; ++i)
            row[(size_t)i * d + j] = (add ? row[(size_t)i * d + j] : 0) + parts[j * apart + i];
}

/* Where row y of a plane, the first of its d images, stands among the parts. */
static size_t place_of(int64_t plane, int c, int y, int h, int w, int d)
{
    const int64_t image = plane / c * d * d + y % d * d;
    return ((size_t)image * c + plane % c) * (h / d) * (w / d) + (size_t)(y / d) * (w / d);
}

void dn_take_apart(const real *maps, int batch, int c, int h, int w, int d, real *parts)
{
    const size_t apart = (size_t)c * (h / d) * (w / d);
    PARALLEL_FOR((size_t)batch * c * h * w)
    for (int64_t plane = 0; plane < (int64_t)batch * c; ++plane) {
        for (int y = 0; y < h; ++y)
            take_row(maps + ((size_t)plane * h + y) * w, w / d, d, apart,
                     parts + place_of(plane, c, y, h, w, d));
    }
}
void dn_put_together(const real *parts, int batch, int c, int h, int w, int d, int add, real *maps)
{
    const size_t apart = (size_t)c * (h / d) * (w / d);
    PARALLEL_FOR((size_t)batch * c * h * w)
    for (int64_t plane = 0; plane < (int64_t)batch * c; ++plane) {
        for (int y = 0; y < h; ++y)
            put_row(parts + place_of(plane, c, y, h, w, d), w / d, d, apart, add,
                    maps + ((size_t)plane * h + y) * w);
    }
}
