/* Overlaps of boxes, with I and U the areas of intersection and union, C that of the smallest box around
 * both, c its diagonal, d the distance of the centres:
 *   IoU    I / U, and 0 where the boxes do not meet
 *   GIoU   IoU - (C - U) / C                                                        (arXiv:1902.09630)
 *   DIoU   IoU - d^2 / c^2                                                          (arXiv:1911.08287)
 *   CIoU   DIoU - v^2 / (1 - IoU + v + 1e-6), v = 4 / pi^2 (atan(w_b / h_b) - atan(w_a / h_a))^2   (same)
 * In Darknet's box_diou (d^2 / c^2) has the exponent 0.6; box_diounms lets it be chosen. gcc and nvcc
 * compile this file; boxes.h has the names for everybody. */
#ifndef DN_OVERLAP_H
#define DN_OVERLAP_H
#include "boxes.h"
#ifdef __cplusplus
#include <math.h>
#else
#include <tgmath.h>
#endif

#define CIOU_EPSILON ((real)1e-6)
#define DIOU_EXPONENT ((real).6)
#define FOUR_BY_PI_SQUARED ((real)0.40528473456935108578)

/* A length along one axis, and its derivatives by the centre and the size of the first box there. */
typedef struct {
    real length, by_center, by_size;
} span;
/* What two intervals share: below 0 where they are apart. */
SCALAR span shared_span(real center_a, real size_a, real center_b, real size_b)
{
    const real low_a = center_a - size_a / 2, high_a = center_a + size_a / 2, low_b = center_b - size_b / 2,
               high_b = center_b + size_b / 2;
    const int low_is_a = low_a > low_b, high_is_a = high_a < high_b;
    return (span){(high_is_a ? high_a : high_b) - (low_is_a ? low_a : low_b), (real)(high_is_a - low_is_a),
                  (real)(high_is_a + low_is_a) / 2};
}
/* The shortest interval around both. */
SCALAR span around_span(real center_a, real size_a, real center_b, real size_b)
{
    const real low_a = center_a - size_a / 2, high_a = center_a + size_a / 2, low_b = center_b - size_b / 2,
               high_b = center_b + size_b / 2;
    const int low_is_a = (low_a < low_b), high_is_a = (high_a > high_b);
    return (span){(high_is_a ? high_a : high_b) - (low_is_a ? low_a : low_b), (real)(high_is_a - low_is_a),
                  (real)(high_is_a + low_is_a) / 2};
}

SCALAR real intersection_of(box a, box b)
{
    const real w = shared_span(a.x, a.w, b.x, b.w).length, h = shared_span(a.y, a.h, b.y, b.h).length;
    return w < 0 || h < 0 ? 0 : w * h;
}
SCALAR real union_of(box a, box b) { return a.w * a.h + b.w * b.h - intersection_of(a, b); }
SCALAR real iou_of(box a, box b)
{
    const real i = intersection_of(a, b), u = union_of(a, b);
    return i == 0 || u == 0 ? 0 : i / u;
}
/* The distance of two boxes as points (x, y, w, h). */
SCALAR real rmse_of(box a, box b)
{
    const real x = a.x - b.x, y = a.y - b.y, w = a.w - b.w, h = a.h - b.h;
    return sqrt(x * x + y * y + w * w + h * h);
}
SCALAR real giou_of(box a, box b)
{
    const real c = around_span(a.x, a.w, b.x, b.w).length * around_span(a.y, a.h, b.y, b.h).length;
    return c == 0 ? iou_of(a, b) : iou_of(a, b) - (c - union_of(a, b)) / c;
}
/* d^2 / c^2 */
SCALAR real relative_distance(box a, box b)
{
    const real w = around_span(a.x, a.w, b.x, b.w).length, h = around_span(a.y, a.h, b.y, b.h).length,
               c = w * w + h * h, x = a.x - b.x, y = a.y - b.y;
    return c == 0 ? 0 : (x * x + y * y) / c;
}
SCALAR real diounms_of(box a, box b, real beta) { return iou_of(a, b) - pow(relative_distance(a, b), beta); }
SCALAR real diou_of(box a, box b) { return diounms_of(a, b, DIOU_EXPONENT); }
SCALAR real angle_difference(box a, box b) { return atan(b.w / b.h) - atan(a.w / a.h); }
SCALAR real ciou_of(box a, box b)
{
    const real angle = angle_difference(a, b), v = FOUR_BY_PI_SQUARED * angle * angle, iou = iou_of(a, b);
    return iou - relative_distance(a, b) - v * v / (1 - iou + v + CIOU_EPSILON);
}
SCALAR real overlap_of(box a, box b, int kind)
{
    switch (kind) {
    case GIOU:
        return giou_of(a, b);
    case DIOU:
        return iou_of(a, b) - relative_distance(a, b);
    case CIOU:
        return ciou_of(a, b);
    default:
        return iou_of(a, b);
    }
}

/* ---- derivatives by the first box */
SCALAR box combine(real s, box a, real t, box b)
{
    return (box){s * a.x + t * b.x, s * a.y + t * b.y, s * a.w + t * b.w, s * a.h + t * b.h};
}
/* of the area x.length * y.length */
SCALAR box area_gradient(span x, span y)
{
    return (box){x.by_center * y.length, y.by_center * x.length, x.by_size * y.length, y.by_size * x.length};
}
/* of p / q, given those of p and q */
SCALAR box quotient_gradient(real p, box by_p, real q, box by_q)
{
    return combine(1 / q, by_p, -p / (q * q), by_q);
}
SCALAR box distance_gradient(box a, box b, span x, span y)
{
    const real dx = a.x - b.x, dy = a.y - b.y;
    const box by_d = {2 * dx, 2 * dy, 0, 0}, by_c = {2 * x.length * x.by_center, 2 * y.length * y.by_center,
                                                     2 * x.length * x.by_size, 2 * y.length * y.by_size};
    return quotient_gradient(dx * dx + dy * dy, by_d, x.length * x.length + y.length * y.length, by_c);
}
SCALAR box aspect_gradient(box a, box b, real iou, box by_iou)
{
    const real angle = angle_difference(a, b), v = FOUR_BY_PI_SQUARED * angle * angle,
               s = 1 - iou + v + CIOU_EPSILON,
               slope = -2 * FOUR_BY_PI_SQUARED * angle / (a.w * a.w + a.h * a.h);
    const box by_v = {0, 0, slope * a.h, -slope * a.w};
    return quotient_gradient(v * v, combine(2 * v, by_v, 0, by_v), s, combine(1, by_v, -1, by_iou));
}
SCALAR box overlap_gradient_of(box a, box b, int kind)
{
    const box none = {0, 0, 0, 0};
    const span x = shared_span(a.x, a.w, b.x, b.w), y = shared_span(a.y, a.h, b.y, b.h),
               around_x = around_span(a.x, a.w, b.x, b.w), around_y = around_span(a.y, a.h, b.y, b.h);
    const int meet = x.length > 0 && y.length > 0;
    const real i = meet ? x.length * y.length : 0, u = a.w * a.h + b.w * b.h - i,
               c = around_x.length * around_y.length;
    const box by_i = meet ? area_gradient(x, y) : none, by_u = {-by_i.x, -by_i.y, a.h - by_i.w, a.w - by_i.h},
              by_iou = meet ? quotient_gradient(i, by_i, u, by_u) : none;
    if (kind == GIOU) {
        return combine(1, by_iou, 1, quotient_gradient(u, by_u, c, area_gradient(around_x, around_y)));
    }
    if (kind != DIOU && kind != CIOU) return by_iou;
    const box by_diou = combine(1, by_iou, -1, distance_gradient(a, b, around_x, around_y));
    if (kind == DIOU) return by_diou;
    return combine(1, by_diou, -1, aspect_gradient(a, b, meet ? i / u : 0, by_iou));
}
#endif
