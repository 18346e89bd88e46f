/* A dilated convolution as convolutions that are not: with dilation d an output reads inputs whose rows and
 * columns are d apart, so rows and columns with the same rest mod d form an image of their own. Where d
 * divides both sides, the d * d images of an image are alike; they stand side by side: image b's of row y and
 * column x is b * d * d + y % d * d + x % d. */
#ifndef DN_DILATION_H
#define DN_DILATION_H
#include "darknet.h"

/* parts (batch * d * d, c, h / d, w / d) of maps (batch, c, h, w). */
void dn_take_apart(const real *maps, int batch, int c, int h, int w, int d, real *parts);
/* maps = or, with add, += what the parts are of. */
void dn_put_together(const real *parts, int batch, int c, int h, int w, int d, int add, real *maps);
#endif
