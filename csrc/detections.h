/* Removing detections that overlap better ones. */
#ifndef DN_DETECTIONS_H
#define DN_DETECTIONS_H
#include "real.h"

/* Class by class, a detection loses its probability where it overlaps a surer one by more than thresh:
 *   sort, corners   IoU
 *   greedy          IoU - (d^2 / c^2)^0.6
 *   diou            IoU - (d^2 / c^2)^beta
 *   objectness      IoU, all classes at once, by objectness */
typedef enum { NMS_SORT, NMS_GREEDY, NMS_DIOU, NMS_CORNERS, NMS_OBJECTNESS, NMS_KINDS } NMS_KIND;

/* In place; rows of 5 + classes values as get_detections has them. Returns a dn_status. */
int nms_detections(real *rows, int count, int classes, real thresh, int kind, real beta);
#endif
