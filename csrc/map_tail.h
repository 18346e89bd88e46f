/* What AlexeyAB's [convolutional] and [maxpool] may do with a finished map before it becomes their output:
 *     assisted_excitation=N   in training, where a box of the truth lies, every channel grows by alpha times
 *                         the mean of all channels there (M. M. Derakhshani et al., arXiv:1906.05388);
 *                         alpha = 1 + cos(pi update / N) falls from 2 to 0 in N updates, N=1: in max_batches
 *     antialiasing=1, 2   a blur (3x3 or 2x2) takes over the stride; the layer itself has stride 1
 *     coordconv=1         the first three channels become coordinates
 * The layer then writes its map, of h x w, to `map` and finds the delta there in `map_delta`; without a tail
 * these are NULL and 0, and its output is the map. */
#ifndef DN_MAP_TAIL_H
#define DN_MAP_TAIL_H
#include "layer.h"

typedef struct {
    int antialiasing, coordconv, assisted_excitation;
    int h, w, stride_x, stride_y; /* of the map, and of the blur */
    real *map, *map_delta, *excited; /* excited: alpha where a box lies, else 0, (batch, h, w) */
} map_tail;
#define MAP_TAIL_ROWS(type, tail, shape) \
    ARRAY(type, tail.map, "map", shape, ACTIVATION, 0), \
        ARRAY(type, tail.map_delta, "map_delta", shape, ACTIVATION, TRAIN_ONLY)
#define EXCITED_ROW(type, tail, shape) \
    ARRAY(type, tail.excited, "excited", shape, ACTIVATION, TRAIN_ONLY)

int has_tail(const map_tail *t);
/* The output's shape, given the layer's own map (h, w, c) and its strides. */
dn_status tail_shape(layer *l, map_tail *t, int64_t h, int64_t w, int64_t c, int stride_x, int stride_y);
dn_shape shape_tail(const layer *l, const map_tail *t); /* of the map; none without a tail */
dn_shape shape_excited(const layer *l, const map_tail *t);
void tail_forward(const layer *l, const network *net, const map_tail *t);
void tail_backward(const layer *l, const kernels *k, const map_tail *t); /* l->delta -> map_delta */
#endif
